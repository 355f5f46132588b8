//! Finds, in a graph as exporters write it, what our kernels do in one step, and keeps 8-bit weights as they are.
//!
//! A part that is recognised is replaced by one node, in place of the last of its nodes; what nobody needs any more is dropped
//! afterwards. What is not recognised stays, and tract does it: slower, and as right.

mod attention;
mod graph;
mod norm;
mod product;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use crate::file::Bytes;
use crate::ops::{Fused, Linear, Table};

/// What a node of ours is called, until it is given its operator.
pub const PLACEHOLDER: &str = "EdgeNetFused";

/// A graph that is rewritten.
struct Graph {
    nodes: Vec<NodeProto>,
    /// The node that makes a value, by the value's name.
    makers: HashMap<String, usize>,
    constants: HashMap<String, TensorProto>,
    large: HashMap<String, Bytes>,
    /// Values that somebody needs besides the nodes.
    outputs: HashSet<String>,
    /// All constants that there were.
    were: HashSet<String>,
    fused: HashMap<String, Fused>,
    /// What was packed for a matrix, and whether it is for bytes, since exporters share them.
    packed: HashMap<(String, bool), Arc<Linear>>,
    tables: HashMap<String, Arc<Table>>,
}

/// Rewrites `graph`; what each of the nodes called [`PLACEHOLDER`] does, by the node's name. Large tensors that were not recognised
/// become ordinary ones.
pub fn fuse(graph: &mut GraphProto, large: HashMap<String, Bytes>) -> HashMap<String, Fused> {
    if !is_ordered(graph) {
        graph.initializer.extend(large.into_iter().map(|(name, bytes)| tensor(name, bytes)));
        return HashMap::new();
    }
    let nodes = std::mem::take(&mut graph.node);
    let makers = makers(&nodes);
    let constants: HashMap<String, TensorProto> = std::mem::take(&mut graph.initializer)
        .into_iter()
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect();
    let were = constants.keys().chain(large.keys()).cloned().collect();
    let outputs = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut this = Graph {
        nodes,
        makers,
        constants,
        large,
        outputs,
        were,
        fused: HashMap::new(),
        packed: HashMap::new(),
        tables: HashMap::new(),
    };
    for step in [
        Graph::lookup,
        Graph::product,
        Graph::bias,
        Graph::gelu,
        Graph::norm,
        Graph::attention,
        Graph::heads,
    ] {
        for at in 0..this.nodes.len() {
            if let Some((fused, inputs)) = step(&mut this, at) {
                this.replace(at, fused, inputs);
            }
        }
        this.drop_unused();
    }
    this.put_back(graph);
    this.fused
}

/// Whether each node makes something, nothing is made twice, and nodes come after those that they need, as ONNX demands: then
/// whoever goes from a value to what it is made of comes to an end.
fn is_ordered(graph: &GraphProto) -> bool {
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

/// A large tensor as an ordinary one.
fn tensor(name: String, bytes: Bytes) -> TensorProto {
    TensorProto {
        name,
        dims: bytes.dims.iter().map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX)).collect(),
        data_type: (if bytes.signed { DataType::Int8 } else { DataType::Uint8 }).into(),
        raw_data: bytes.values,
        ..TensorProto::default()
    }
}

fn makers(nodes: &[NodeProto]) -> HashMap<String, usize> {
    let outputs = nodes
        .iter()
        .enumerate()
        .flat_map(|(at, node)| node.output.iter().map(move |output| (output.clone(), at)));
    outputs.collect()
}

/// What a step finds at a node: the operator that replaces it, and that one's inputs.
type Found = Option<(Fused, Vec<String>)>;

impl Graph {
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

    /// Drops nodes, and constants, whose values nobody needs.
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

    fn put_back(&mut self, graph: &mut GraphProto) {
        graph.node = std::mem::take(&mut self.nodes);
        let large =
            std::mem::take(&mut self.large).into_iter().map(|(name, bytes)| tensor(name, bytes));
        graph.initializer =
            std::mem::take(&mut self.constants).into_values().chain(large).collect();
        graph.initializer.sort_by(|a, b| a.name.cmp(&b.name));
        let kept: HashSet<&str> = graph.initializer.iter().map(|tensor| &*tensor.name).collect();
        // Old exporters list constants as inputs too.
        graph.input.retain(|input| kept.contains(&*input.name) || !self.were.contains(&input.name));
        // What is said of values that are gone, or made otherwise now, is not needed: tract infers it.
        graph.value_info.clear();
    }
}

/// Values that graphs inside a node take from outside: all that they name.
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
