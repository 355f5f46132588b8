//! Facts that a manifest takes from an ONNX file: operator set, outputs, metadata, quantization.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use edge_net_onnx::messages::{DataType, GraphProto, ModelProto, NodeProto, TensorProto};
use edge_net_onnx::{Error, Event, Message};
use prost::Message as _;

/// Facts about an ONNX file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Onnx {
    /// Version of the default operator set.
    pub opset: Option<u64>,
    /// Names of the graph's outputs.
    pub outputs: Vec<String>,
    /// `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    /// Bits of block-quantized weights (`MatMulNBits`), if the graph has any.
    bits: Option<u64>,
    /// Bytes of weights by data type.
    weights: BTreeMap<i32, u64>,
}

/// Longest field that is looked at, in bytes: longer ones are constants inside nodes.
const MAX_FIELD: usize = 16 << 20;
/// Longest metadata value that is kept, in bytes.
const MAX_TEXT: usize = 4096;

/// Reads a file without its weights; `None` if it is not an ONNX file.
#[must_use]
pub fn skim(path: &Path) -> Option<Onnx> {
    let mut file = File::open(path).ok()?;
    let mut onnx = Onnx::default();
    let mut tensor = TensorProto::default();
    edge_net_onnx::skim(&mut file, MAX_FIELD, |event| onnx.add(event, &mut tensor)).ok()?;
    // Every model names the operator sets of its nodes.
    onnx.opset.is_some().then_some(onnx)
}

impl Onnx {
    /// The quantization of most of the weights, by the names of the registry.
    #[must_use]
    pub fn quantization(&self) -> Option<&'static str> {
        match self.bits {
            Some(4) => return Some("INT4"),
            Some(8) => return Some("INT8"),
            _ => {}
        }
        let share = |types: &[DataType]| {
            types.iter().filter_map(|kind| self.weights.get(&i32::from(*kind))).sum::<u64>()
        };
        let kinds = [
            ("INT4", share(&[DataType::Uint4, DataType::Int4])),
            ("INT8", share(&[DataType::Uint8, DataType::Int8])),
            ("FP16", share(&[DataType::Float16, DataType::Bfloat16])),
            ("FP32", share(&[DataType::Float])),
        ];
        let (name, bytes) = kinds.into_iter().max_by_key(|(_, bytes)| *bytes)?;
        (bytes > 0).then_some(name)
    }

    /// Adds an event; `tensor` holds shape and type of the tensor that is open.
    fn add(&mut self, event: &Event<'_>, tensor: &mut TensorProto) -> Result<(), Error> {
        let undecodable = |message| move |error| Error::undecodable(message, error);
        match *event {
            Event::Field { message: message @ Message::Model, encoded, .. } => {
                self.add_model(ModelProto::decode(encoded).map_err(undecodable(message))?);
            }
            Event::Field { message: message @ Message::Graph, encoded, .. } => {
                self.add_graph(GraphProto::decode(encoded).map_err(undecodable(message))?);
            }
            Event::Start { message: Message::Tensor, .. } => *tensor = TensorProto::default(),
            // Dimensions and data type.
            Event::Field { message: message @ Message::Tensor, number: 1 | 2, encoded } => {
                tensor.merge(encoded).map_err(undecodable(message))?;
            }
            Event::End { message: Message::Tensor } => self.add_tensor(tensor),
            _ => {}
        }
        Ok(())
    }

    /// Adds the fields that were read of the model.
    fn add_model(&mut self, model: ModelProto) {
        for set in model.opset_import {
            if matches!(set.domain(), "" | "ai.onnx") {
                self.opset = Some(set.version().cast_unsigned());
            }
        }
        for entry in model.metadata_props {
            let value = entry.value.filter(|value| value.len() <= MAX_TEXT).unwrap_or_default();
            self.metadata.insert(entry.key.unwrap_or_default(), value);
        }
    }

    /// Adds the fields that were read of the graph.
    fn add_graph(&mut self, graph: GraphProto) {
        self.outputs.extend(graph.output.into_iter().map(|output| output.name.unwrap_or_default()));
        for node in graph.node.iter().filter(|node| node.op_type() == "MatMulNBits") {
            self.bits = bits(node).or(Some(4));
        }
    }

    fn add_tensor(&mut self, tensor: &TensorProto) {
        let kind = tensor.data_type.unwrap_or_default();
        let bits = DataType::try_from(kind).map_or(32, DataType::bits);
        let weights = self.weights.entry(kind).or_default();
        let bytes = tensor.elements().saturating_mul(bits.into()) / 8;
        *weights = weights.saturating_add(bytes);
    }
}

/// The attribute `bits` of a node.
fn bits(node: &NodeProto) -> Option<u64> {
    let attribute = node.attribute.iter().rfind(|attribute| attribute.name() == "bits")?;
    Some(attribute.i?.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use edge_net_onnx::Model;
    use edge_net_onnx::messages::{AttributeProto, OperatorSetIdProto, StringStringEntryProto};

    use super::*;

    /// A model with `attributes` at its `MatMulNBits` and a constant of 100 elements of `kind`.
    fn skimmed(operator: &str, attributes: &[(&str, i64)], kind: DataType) -> Onnx {
        let attribute = |(name, i): &(&str, i64)| AttributeProto {
            name: Some((*name).to_owned()),
            i: Some(*i),
            ..AttributeProto::default()
        };
        let node = NodeProto {
            op_type: Some(operator.to_owned()),
            attribute: attributes.iter().map(attribute).collect(),
            ..NodeProto::default()
        };
        let weights = TensorProto {
            dims: vec![10, 10],
            data_type: Some(kind.into()),
            ..TensorProto::default()
        };
        let set = OperatorSetIdProto { domain: None, version: Some(21) };
        let license = StringStringEntryProto {
            key: Some("license".to_owned()),
            value: Some("MIT".to_owned()),
        };
        let head = ModelProto {
            opset_import: vec![set],
            metadata_props: vec![license],
            ..ModelProto::default()
        };
        let graph =
            GraphProto { node: vec![node], initializer: vec![weights], ..GraphProto::default() };
        let file = tempfile::NamedTempFile::new().unwrap();
        let model = Model { head, graph: Some(graph), ..Model::default() };
        model.outline().write(&mut file.as_file(), |_, _, _| Ok(())).unwrap();
        skim(file.path()).unwrap()
    }

    #[test]
    fn quantization_is_that_of_most_weights_or_of_blocks() {
        let of =
            |operator, attributes: &[_], kind| skimmed(operator, attributes, kind).quantization();
        assert_eq!(of("MatMul", &[("bits", 8)], DataType::Float), Some("FP32"));
        assert_eq!(of("MatMul", &[], DataType::Uint4), Some("INT4"));
        assert_eq!(of("MatMul", &[], DataType::Bfloat16), Some("FP16"));
        assert_eq!(of("MatMul", &[], DataType::Int64), None);
        assert_eq!(of("MatMulNBits", &[("bits", 8), ("K", 9)], DataType::Float), Some("INT8"));
        assert_eq!(of("MatMulNBits", &[("K", 9)], DataType::Float), Some("INT4"));
    }

    #[test]
    fn operator_set_and_metadata_are_read() {
        let onnx = skimmed("MatMul", &[], DataType::Float);
        assert_eq!(onnx.opset, Some(21));
        assert_eq!(onnx.metadata["license"], "MIT");
    }

    #[test]
    fn other_files_are_not_onnx() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "<!doctype html>").unwrap();
        assert_eq!(skim(file.path()), None);
        std::fs::write(file.path(), "").unwrap();
        assert_eq!(skim(file.path()), None);
    }
}
