//! Layer normalization, as one operator or as its parts.

use std::collections::HashSet;
use std::sync::Arc;

use tract_onnx::pb::NodeProto;

use super::graph::{Found, Graph, attribute};
use crate::ops::{Fused, Norm};

impl Graph {
    /// Matches layer normalization, as one operator or as its parts, with the addition before it if
    /// nothing else reads the sum.
    pub(super) fn norm(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        let (x, norm) = match &*node.op_type {
            "LayerNormalization" if node.output.iter().skip(1).all(String::is_empty) => {
                let [x, scale, bias @ ..] = node.input.as_slice() else { return None };
                let scale = self.floats(scale)?;
                let bias = match bias.first() {
                    Some(bias) => self.floats(bias)?,
                    None => vec![0.0; scale.len()],
                };
                let epsilon = attribute(node, "epsilon").map_or(1e-5, |epsilon| epsilon.f);
                let last = attribute(node, "axis").is_none_or(|axis| axis.i == -1);
                if !last {
                    return None;
                }
                (x.clone(), Norm { scale, bias, epsilon })
            }
            "Add" => self.norm_by_parts(node)?,
            _ => return None,
        };
        if norm.scale.len() != norm.bias.len() || norm.scale.len() < 2 {
            return None;
        }
        let inputs = match self.made_by(&x, "Add").map(|add| add.input.clone()) {
            // Several parts of the normalization read the sum.
            Some(summands)
                if !summands.iter().any(|summand| self.constant(summand).is_some())
                    && self.only_for(&x, at) =>
            {
                summands
            }
            _ => vec![x],
        };
        Some((Fused::Norm(Arc::new(norm)), inputs))
    }

    /// Whether only the node at `at`, and nodes that lead to it, read `value`.
    fn only_for(&self, value: &str, at: usize) -> bool {
        let mut below = HashSet::from([at]);
        let mut open = vec![at];
        while let Some(node) = open.pop() {
            for input in self.nodes[node].input.iter().filter(|input| *input != value) {
                if let Some(maker) = self.makers.get(input)
                    && below.len() < 16
                    && below.insert(*maker)
                {
                    open.push(*maker);
                }
            }
        }
        let users = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.input.iter().any(|input| input == value));
        !self.outputs.contains(value)
            && users.map(|(user, _)| user).all(|user| below.contains(&user))
    }

    /// Matches `(x - mean) / sqrt(mean((x - mean)²) + ε) × scale + bias`.
    fn norm_by_parts(&self, node: &NodeProto) -> Option<(String, Norm)> {
        let (scaled, bias) = self.with_constant(node)?;
        let (normal, scale) = self.with_constant(self.made_by(&scaled, "Mul")?)?;
        let [difference, deviation] = self.made_by(&normal, "Div")?.input.as_slice() else {
            return None;
        };
        let variance = self.made_by(deviation, "Sqrt")?.input.first()?;
        let (variance, epsilon) = self.by_number(variance, "Add")?;
        let square = self.mean_of(&variance)?;
        let squared = match self.by_number(&square, "Pow") {
            Some((x, 2.0)) => x,
            Some(_) => return None,
            None => {
                let [a, b] = self.made_by(&square, "Mul")?.input.as_slice() else { return None };
                (a == b).then(|| a.clone())?
            }
        };
        let [x, mean] = self.made_by(difference, "Sub")?.input.as_slice() else { return None };
        let [y, of] = self.made_by(&squared, "Sub")?.input.as_slice() else { return None };
        (x == y && self.mean_of(mean)? == *x && self.mean_of(of)? == *x)
            .then(|| (x.clone(), Norm { scale, bias, epsilon }))
    }

    /// `x`, where `value` is its mean over the last dimension.
    fn mean_of(&self, value: &str) -> Option<String> {
        let node = self.made_by(value, "ReduceMean")?;
        let axes = match node.input.get(1) {
            Some(axes) => self.integers(axes)?,
            None => attribute(node, "axes")?.ints.clone(),
        };
        let kept = attribute(node, "keepdims").is_none_or(|kept| kept.i != 0);
        (axes == [-1] && kept).then(|| node.input[0].clone())
    }
}
