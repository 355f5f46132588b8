//! Questions to a graph: who makes a value, who needs it, and what is constant.

use std::borrow::Cow;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::{Graph, PLACEHOLDER};
use crate::file::integer;
use crate::ops::Fused;

impl Graph {
    pub(super) fn maker(&self, value: &str) -> Option<&NodeProto> {
        self.makers.get(value).map(|at| &self.nodes[*at])
    }

    /// The node that makes `value`, if it is of this kind.
    pub(super) fn made_by(&self, value: &str, kind: &str) -> Option<&NodeProto> {
        self.maker(value).filter(|node| node.op_type == kind)
    }

    pub(super) fn fused_by(&self, value: &str) -> Option<(&Fused, &NodeProto)> {
        let node = self.made_by(value, PLACEHOLDER)?;
        Some((self.fused.get(&node.name)?, node))
    }

    pub(super) fn users(&self, value: &str) -> usize {
        let inputs =
            self.nodes.iter().flat_map(|node| &node.input).filter(|input| *input == value).count();
        inputs + usize::from(self.outputs.contains(value))
    }

    /// The inputs of a node of two, one of which is constant: the other, and that constant.
    pub(super) fn with_constant(&self, node: &NodeProto) -> Option<(String, Vec<f32>)> {
        let [a, b] = node.input.as_slice() else { return None };
        let of = |constant: &str| self.floats(constant);
        match (of(a), of(b)) {
            (None, Some(constant)) => Some((a.clone(), constant)),
            (Some(constant), None) => Some((b.clone(), constant)),
            _ => None,
        }
    }

    /// `x` and `c`, where `value` is made of `x` by `kind` with one number `c`.
    pub(super) fn by_number(&self, value: &str, kind: &str) -> Option<(String, f32)> {
        let (x, constant) = self.with_constant(self.made_by(value, kind)?)?;
        if let [c] = *constant { Some((x, c)) } else { None }
    }

    pub(super) fn constant(&self, name: &str) -> Option<Cow<'_, TensorProto>> {
        if let Some(tensor) = self.constants.get(name) {
            return Some(Cow::Borrowed(tensor));
        }
        let node = self.maker(name)?;
        match &*node.op_type {
            "Constant" => Some(Cow::Owned(attribute(node, "value")?.t.clone()?)),
            "Identity" => self.constant(node.input.first()?),
            _ => None,
        }
    }

    /// A constant of single floats.
    pub(super) fn floats(&self, name: &str) -> Option<Vec<f32>> {
        let tensor = self.constant(name)?;
        if DataType::try_from(tensor.data_type).ok()? != DataType::Float {
            return None;
        }
        if tensor.raw_data.is_empty() {
            return Some(tensor.float_data.clone());
        }
        Some(
            tensor
                .raw_data
                .as_chunks::<4>()
                .0
                .iter()
                .map(|four| f32::from_le_bytes(*four))
                .collect(),
        )
    }

    /// A constant of 64-bit integers.
    pub(super) fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let tensor = self.constant(name)?;
        if DataType::try_from(tensor.data_type).ok()? != DataType::Int64 {
            return None;
        }
        if tensor.raw_data.is_empty() {
            return Some(tensor.int64_data.clone());
        }
        Some(
            tensor
                .raw_data
                .as_chunks::<8>()
                .0
                .iter()
                .map(|eight| i64::from_le_bytes(*eight))
                .collect(),
        )
    }

    /// The one value of a constant of 8-bit integers; of several, if they are all the same.
    pub(super) fn byte(&self, name: &str) -> Option<i16> {
        let tensor = self.constant(name)?;
        let signed = match DataType::try_from(tensor.data_type).ok()? {
            DataType::Int8 => true,
            DataType::Uint8 => false,
            _ => return None,
        };
        let raw = tensor.raw_data.iter().map(|byte| integer(*byte, signed));
        let listed = tensor.int32_data.iter().filter_map(|value| i16::try_from(*value).ok());
        let mut values = raw.chain(listed);
        let first = values.next()?;
        values.all(|value| value == first).then_some(first)
    }
}

/// An attribute of a node.
pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}
