//! A graph that is being rewritten: queries on its values, and replacement of its nodes.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

use crate::file::{Bytes, integer};
use crate::ops::{Fused, Linear, Table};

/// Operator type of a node of this crate, until it gets its operator.
pub const PLACEHOLDER: &str = "EdgeNetFused";

/// The result of a step at a node: the operator that replaces it, and the names of its inputs.
pub(super) type Found = Option<(Fused, Vec<String>)>;

/// A search for a pattern that ends at the node with this index.
pub(super) type Step = fn(&mut Graph, usize) -> Found;

/// A graph that is being rewritten.
pub(super) struct Graph {
    /// Nodes, each after those whose values it reads.
    pub(super) nodes: Vec<NodeProto>,
    /// Index of the node that writes a value, by the value's name.
    pub(super) makers: HashMap<String, usize>,
    /// Constants by name, except `large`.
    constants: HashMap<String, TensorProto>,
    /// Large tensors of 8-bit integers by name.
    pub(super) large: HashMap<String, Bytes>,
    /// Names of the graph's outputs.
    pub(super) outputs: HashSet<String>,
    /// Names of all constants of the original graph.
    original_constants: HashSet<String>,
    /// Operators by the name of their node.
    pub(super) fused: HashMap<String, Fused>,
    /// Products by matrix, and whether their input is rounded to bytes: exporters share matrices.
    pub(super) packed: HashMap<(String, bool), Arc<Linear>>,
    /// Tables by name.
    pub(super) tables: HashMap<String, Arc<Table>>,
}

impl Graph {
    /// Takes the nodes and constants out of `graph`, which has to be [ordered](is_ordered).
    pub(super) fn take(graph: &mut GraphProto, large: HashMap<String, Bytes>) -> Self {
        let nodes = std::mem::take(&mut graph.node);
        let constants: HashMap<String, TensorProto> = std::mem::take(&mut graph.initializer)
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor))
            .collect();
        Self {
            makers: makers(&nodes),
            nodes,
            original_constants: constants.keys().chain(large.keys()).cloned().collect(),
            constants,
            large,
            outputs: graph.output.iter().map(|output| output.name.clone()).collect(),
            fused: HashMap::new(),
            packed: HashMap::new(),
            tables: HashMap::new(),
        }
    }

    /// Applies a step to all nodes, then drops what is not used any more.
    pub(super) fn replace_all(&mut self, step: Step) {
        for at in 0..self.nodes.len() {
            if let Some((fused, inputs)) = step(self, at) {
                self.replace(at, fused, inputs);
            }
        }
        self.drop_unused();
    }

    /// Replaces the node at `at` by one with the operator `fused`.
    fn replace(&mut self, at: usize, fused: Fused, inputs: Vec<String>) {
        let output = self.nodes[at].output[0].clone();
        let name = format!("{PLACEHOLDER}/{output}");
        self.fused.insert(name.clone(), fused);
        self.nodes[at] = NodeProto {
            name,
            op_type: PLACEHOLDER.to_owned(),
            input: inputs,
            output: vec![output],
            ..NodeProto::default()
        };
    }

    /// Drops nodes and constants whose values are not used.
    fn drop_unused(&mut self) {
        let mut needed = self.outputs.clone();
        let mut kept: Vec<NodeProto> = Vec::with_capacity(self.nodes.len());
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if node.output.iter().any(|output| needed.contains(output)) {
                needed.extend(node.input.iter().cloned());
                needed.extend(captured(&node));
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.makers = makers(&self.nodes);
        self.constants.retain(|name, _| needed.contains(name));
        self.large.retain(|name, _| needed.contains(name));
    }

    /// Puts nodes and constants back into `graph`; returns the operators by node name.
    pub(super) fn put_back(mut self, graph: &mut GraphProto) -> HashMap<String, Fused> {
        graph.node = std::mem::take(&mut self.nodes);
        let large = std::mem::take(&mut self.large)
            .into_iter()
            .map(|(name, bytes)| bytes.into_tensor(name));
        graph.initializer =
            std::mem::take(&mut self.constants).into_values().chain(large).collect();
        graph.initializer.sort_by(|a, b| a.name.cmp(&b.name));
        let kept: HashSet<&str> = graph.initializer.iter().map(|tensor| &*tensor.name).collect();
        // Old exporters list constants as inputs too.
        graph.input.retain(|input| {
            kept.contains(&*input.name) || !self.original_constants.contains(&input.name)
        });
        // Types of intermediate values may be wrong now; tract infers them.
        graph.value_info.clear();
        self.fused
    }

    /// The node that writes `value`.
    pub(super) fn maker(&self, value: &str) -> Option<&NodeProto> {
        self.makers.get(value).map(|at| &self.nodes[*at])
    }

    /// The node that writes `value`, if its operator is `kind`.
    pub(super) fn made_by(&self, value: &str, kind: &str) -> Option<&NodeProto> {
        self.maker(value).filter(|node| node.op_type == kind)
    }

    /// The operator of this crate that writes `value`, and its node.
    pub(super) fn fused_by(&self, value: &str) -> Option<(&Fused, &NodeProto)> {
        let node = self.made_by(value, PLACEHOLDER)?;
        Some((self.fused.get(&node.name)?, node))
    }

    /// Number of inputs and graph outputs that read `value`.
    pub(super) fn users(&self, value: &str) -> usize {
        let inputs =
            self.nodes.iter().flat_map(|node| &node.input).filter(|input| *input == value).count();
        inputs + usize::from(self.outputs.contains(value))
    }

    /// The two inputs of a node with exactly one constant input: the other input's name, and the
    /// constant.
    pub(super) fn with_constant(&self, node: &NodeProto) -> Option<(String, Vec<f32>)> {
        let [a, b] = node.input.as_slice() else { return None };
        let of = |constant: &str| self.floats(constant);
        match (of(a), of(b)) {
            (None, Some(constant)) => Some((a.clone(), constant)),
            (Some(constant), None) => Some((b.clone(), constant)),
            _ => None,
        }
    }

    /// `x` and `c`, where `value` is the result of `kind` for `x` and a constant number `c`.
    pub(super) fn by_number(&self, value: &str, kind: &str) -> Option<(String, f32)> {
        let (x, constant) = self.with_constant(self.made_by(value, kind)?)?;
        if let [c] = *constant { Some((x, c)) } else { None }
    }

    /// The constant `name`: an initializer, or the result of a `Constant` node.
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

    /// The values of a constant of single floats.
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

    /// The values of a constant of 64-bit integers.
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

    /// The value of a constant of 8-bit integers whose elements are all equal.
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

/// The attribute `name` of a node.
pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// Checks that each node writes something, no value is written twice, and nodes come after those
/// whose values they read, as ONNX demands: following values back to their nodes then terminates.
pub(super) fn is_ordered(graph: &GraphProto) -> bool {
    let mut made = HashSet::new();
    let all: HashSet<&str> =
        graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    graph.node.iter().all(|node| {
        let after = node
            .input
            .iter()
            .all(|input| !all.contains(&**input) || input.is_empty() || made.contains(&**input));
        let named = node.output.first().is_some_and(|output| !output.is_empty());
        after
            && named
            && node.output.iter().all(|output| output.is_empty() || made.insert(&**output))
    })
}

/// Indices of the nodes by the names of their outputs.
fn makers(nodes: &[NodeProto]) -> HashMap<String, usize> {
    let outputs = nodes
        .iter()
        .enumerate()
        .flat_map(|(at, node)| node.output.iter().map(move |output| (output.clone(), at)));
    outputs.collect()
}

/// Names of the values that graphs inside a node may read from outside: all names in them.
fn captured(node: &NodeProto) -> Vec<String> {
    let graphs =
        node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    let names = graphs.flat_map(|graph| {
        let inner =
            graph.node.iter().flat_map(|node| node.input.iter().cloned().chain(captured(node)));
        inner.chain(graph.output.iter().map(|output| output.name.clone())).collect::<Vec<_>>()
    });
    names.collect()
}
