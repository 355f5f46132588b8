//! Attention, and how its inputs are split into heads.

use tract_onnx::pb::NodeProto;

use super::graph::{Found, Graph, attribute};
use crate::ops::{Attention, Fused};

impl Graph {
    /// Matches `softmax(scale × q kᵀ + mask) v` on tensors of four dimensions.
    pub(super) fn attention(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        if node.op_type != "MatMul" {
            return None;
        }
        let [probabilities, v] = node.input.as_slice() else { return None };
        // Some exporters replace the result by zeros where all keys of a query are masked.
        let softmax = match self.made_by(probabilities, "Where").map(|node| node.input.as_slice()) {
            Some([is_nan, zero, softmax]) => {
                let of = self.made_by(is_nan, "IsNaN")?.input.first()?;
                (of == softmax && *self.floats(zero)? == [0.0]).then_some(softmax)?
            }
            _ => probabilities,
        };
        let softmax = self.made_by(softmax, "Softmax")?;
        if attribute(softmax, "axis").is_some_and(|axis| axis.i != -1 && axis.i != 3) {
            return None;
        }
        let (mut scores, mut mask) = (softmax.input.first()?.clone(), None);
        if let Some(add) = self.made_by(&scores, "Add") {
            let [a, b] = add.input.as_slice() else { return None };
            let (of_a, of_b) = (self.scores(a).is_some(), self.scores(b).is_some());
            let (inner, other) = if of_a {
                (a, b)
            } else if of_b {
                (b, a)
            } else {
                return None;
            };
            mask = Some(other.clone());
            scores = inner.clone();
        }
        let (q, k, scale) = self.scores(&scores)?;
        let inputs = [q, k, v.clone()].into_iter().chain(mask).collect();
        Some((Fused::Attention(Attention { scale, heads: None }), inputs))
    }

    /// `q`, `k` and `c`, where `value` is `c × q k`.
    fn scores(&self, value: &str) -> Option<(String, String, f32)> {
        let (mut value, mut scale) = (value.to_owned(), 1.0);
        if let Some((inner, divisor)) = self.by_number(&value, "Div") {
            (value, scale) = (inner, 1.0 / divisor);
        } else if let Some((inner, factor)) = self.by_number(&value, "Mul") {
            (value, scale) = (inner, factor);
        }
        let [q, k] = self.made_by(&value, "MatMul")?.input.as_slice() else { return None };
        let (q, q_scale) = self.unscaled(q);
        let (k, k_scale) = self.unscaled(k);
        Some((q, k, scale * q_scale * k_scale))
    }

    /// `x` and `c`, where `value` is `x × c`; `c` is 1 if `value` is not such a product.
    fn unscaled(&self, value: &str) -> (String, f32) {
        let scaled = self.by_number(value, "Mul");
        scaled
            .or_else(|| self.by_number(value, "Div").map(|(x, c)| (x, 1.0 / c)))
            .unwrap_or_else(|| (value.to_owned(), 1.0))
    }

    /// Matches an attention between the splits of its inputs into heads and the merge of its
    /// output: the kernel works on the unsplit tensors by strides.
    pub(super) fn heads(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        if node.op_type != "Reshape" {
            return None;
        }
        let transposed = self.made_by(node.input.first()?, "Transpose")?;
        let (fused, attention) = self.fused_by(transposed.input.first()?)?;
        let Fused::Attention(Attention { scale, heads: None }) = *fused else { return None };
        if !permutes(transposed, &[0, 2, 1, 3]) {
            return None;
        }
        let [q, k, v, mask @ ..] = attention.input.as_slice() else { return None };
        let (q, split) = self.split(q)?;
        let (k, same) = self.split_key(k)?;
        let (v, also) = self.split(v)?;
        if split != same || split != also {
            return None;
        }
        let heads = usize::try_from(split).ok().filter(|heads| *heads > 0)?;
        let inputs = [q, k, v].into_iter().chain(mask.first().cloned()).collect();
        Some((Fused::Attention(Attention { scale, heads: Some(heads) }), inputs))
    }

    /// `x` and the number of heads, where `value` is `x` split into heads:
    /// batch × heads × sequence × width.
    fn split(&self, value: &str) -> Option<(String, i64)> {
        let transposed = self.made_by(value, "Transpose")?;
        if !permutes(transposed, &[0, 2, 1, 3]) {
            return None;
        }
        self.reshaped(transposed.input.first()?)
    }

    /// The same as [`split`](Self::split) with the last two dimensions exchanged, directly or by
    /// way of three dimensions.
    fn split_key(&self, value: &str) -> Option<(String, i64)> {
        if let Some(transposed) = self.made_by(value, "Transpose") {
            let from = transposed.input.first()?;
            if permutes(transposed, &[0, 2, 3, 1]) {
                return self.reshaped(from);
            }
            return if permutes(transposed, &[0, 1, 3, 2]) { self.split(from) } else { None };
        }
        let inner = self.made_by(value, "Reshape")?.input.first()?;
        let transposed =
            self.made_by(inner, "Transpose").filter(|node| permutes(node, &[0, 2, 1]))?;
        let flat = self.made_by(transposed.input.first()?, "Reshape")?.input.first()?;
        self.split(flat)
    }

    /// `x` of three dimensions and the number of heads, where `value` is `x` reshaped to
    /// batch × sequence × heads × width. Where the shape has only the width, the columns of the
    /// matrix that makes `x` give the number of heads.
    fn reshaped(&self, value: &str) -> Option<(String, i64)> {
        let [x, shape] = self.made_by(value, "Reshape")?.input.as_slice() else { return None };
        let known = if let Some(known) = self.integers(shape) {
            known.into_iter().map(Some).collect()
        } else {
            let parts = &self.made_by(shape, "Concat")?.input;
            let part = |part: &String| {
                self.integers(part).and_then(|part| if let [n] = *part { Some(n) } else { None })
            };
            parts.iter().map(part).collect::<Vec<_>>()
        };
        let [_, _, heads, width] = *known else { return None };
        let (Fused::Linear(linear), _) = self.fused_by(x)? else { return None };
        let all = i64::try_from(linear.weights.outputs()).ok()?;
        match (heads.filter(|heads| *heads > 0), width.filter(|width| *width > 0)) {
            (Some(heads), Some(width)) if heads * width == all => Some((x.clone(), heads)),
            (Some(heads), None) if all % heads == 0 => Some((x.clone(), heads)),
            (None, Some(width)) if all % width == 0 => Some((x.clone(), all / width)),
            _ => None,
        }
    }
}

/// Whether the `Transpose` node has this permutation.
fn permutes(node: &NodeProto, order: &[i64]) -> bool {
    attribute(node, "perm").is_some_and(|perm| perm.ints == order)
}
