//! Recognizes, in a graph as exporters write it, the parts that a kernel computes in one step, and
//! keeps 8-bit weights as they are.
//!
//! A recognized part is replaced by one node, in place of its last node; nodes without use are
//! dropped afterwards. tract runs everything else: slower, with the same result.

mod attention;
mod graph;
mod norm;
mod product;

use std::collections::HashMap;

use tract_onnx::pb::GraphProto;

use crate::file::Bytes;
use crate::ops::Fused;

use graph::Graph;
pub use graph::PLACEHOLDER;

/// The replacements, in order: later ones build on the nodes of earlier ones.
const STEPS: [graph::Step; 7] = [
    Graph::lookup,
    Graph::product,
    Graph::bias,
    Graph::gelu,
    Graph::norm,
    Graph::attention,
    Graph::heads,
];

/// Replaces parts of `graph` by nodes of type [`PLACEHOLDER`], and returns their operators by node
/// name. Large tensors that no operator takes become ordinary initializers.
pub fn fuse(graph: &mut GraphProto, large: HashMap<String, Bytes>) -> HashMap<String, Fused> {
    if !graph::is_ordered(graph) {
        graph.initializer.extend(large.into_iter().map(|(name, bytes)| bytes.into_tensor(name)));
        return HashMap::new();
    }
    let mut rewritten = Graph::take(graph, large);
    for step in STEPS {
        rewritten.replace_all(step);
    }
    rewritten.put_back(graph)
}
