//! Products with constant matrices of 8-bit integers, the bias and activation after them, and
//! look-ups in tables of such integers.

use std::sync::Arc;

use tract_onnx::pb::NodeProto;

use super::graph::{Found, Graph, attribute};
use crate::file::{Bytes, integer};
use crate::kernel::linear::{Activation, Rounding, Weights};
use crate::ops::{Fused, Linear, Table};

/// The weights that share a scale.
enum Along {
    /// All weights.
    All,
    /// Those of a row.
    Rows,
    /// Those of a column.
    Columns,
}

/// A large matrix of integers, and the parameters that turn it into floats.
struct Quantized {
    /// Name of the matrix.
    name: String,
    /// Value of one step, for each part given by `along`.
    scales: Vec<f32>,
    along: Along,
    /// The integer for 0.
    zero: i16,
    /// Whether other nodes read the matrix too.
    shared: bool,
}

impl Graph {
    /// Matches a look-up of rows in a table of integers, dequantized before or after the look-up.
    pub(super) fn lookup(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        let (gather, q) = match &*node.op_type {
            "Gather" => (node, self.dequantized(node.input.first()?)?),
            "DequantizeLinear" => {
                let gather = self.made_by(node.input.first()?, "Gather")?;
                let q = self.dequantized_by(node, gather.input.first()?)?;
                (gather, q)
            }
            _ => return None,
        };
        if attribute(gather, "axis").is_some_and(|axis| axis.i != 0) {
            return None;
        }
        let numbers = gather.input.get(1)?.clone();
        if let Some(known) = self.tables.get(&q.name) {
            return Some((Fused::Lookup(Arc::clone(known)), vec![numbers]));
        }
        let bytes = self.large.get(&q.name)?;
        let fits = match q.along {
            Along::All => true,
            Along::Rows => q.scales.len() == bytes.dims[0] && node.op_type == "Gather",
            Along::Columns => false,
        };
        if !fits {
            return None;
        }
        // Other nodes need a shared table in its original form.
        let Bytes { dims, signed, values } =
            if q.shared { bytes.clone() } else { self.large.remove(&q.name)? };
        let table =
            Arc::new(Table { width: dims[1], values, signed, scales: q.scales, zero: q.zero });
        self.tables.insert(q.name, Arc::clone(&table));
        Some((Fused::Lookup(table), vec![numbers]))
    }

    /// Matches a product with a constant matrix of integers: of floats, or of the output of
    /// DynamicQuantizeLinear.
    pub(super) fn product(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        let (x, q, rounding) = match (&*node.op_type, node.input.as_slice()) {
            ("MatMul", [x, matrix]) => (x.clone(), self.dequantized(matrix)?, Rounding::Rows),
            ("Mul", [a, b]) => {
                let (x, q) = self.product_of_bytes(a, b).or_else(|| self.product_of_bytes(b, a))?;
                (x, q, Rounding::Bytes)
            }
            _ => return None,
        };
        let key = (q.name.clone(), rounding == Rounding::Bytes);
        if let Some(known) = self.packed.get(&key) {
            return Some((Fused::Linear(Arc::clone(known)), vec![x]));
        }
        let weights = self.weights(q)?;
        let linear =
            Arc::new(Linear { weights, rounding, bias: None, activation: Activation::None });
        self.packed.insert(key, Arc::clone(&linear));
        Some((Fused::Linear(linear), vec![x]))
    }

    /// `x` and the matrix, where `product` is the cast output of MatMulInteger, and `scales` the
    /// factor that turns it into floats.
    fn product_of_bytes(&self, product: &str, scales: &str) -> Option<(String, Quantized)> {
        let sums = self.made_by(self.made_by(product, "Cast")?.input.first()?, "MatMulInteger")?;
        let [x, matrix, x_zero, zero @ ..] = sums.input.as_slice() else { return None };
        let steps = self.made_by(x, "DynamicQuantizeLinear")?;
        let (x_scale, scales) = self.with_constant(self.made_by(scales, "Mul")?)?;
        let [of, size, of_zero] = steps.output.as_slice() else { return None };
        if of != x || *size != x_scale || of_zero != x_zero {
            return None;
        }
        let zero = zero.first().map_or(Some(0), |zero| self.byte(zero))?;
        let along = if scales.len() == 1 { Along::All } else { Along::Columns };
        let shared = self.users(matrix) > 1;
        let x = steps.input.first()?.clone();
        self.matrix(matrix)
            .then(|| (x, Quantized { name: matrix.clone(), scales, along, zero, shared }))
    }

    /// The matrix that `value` is dequantized from.
    fn dequantized(&self, value: &str) -> Option<Quantized> {
        let node = self.maker(value)?;
        match &*node.op_type {
            "Mul" => {
                let (cast, scales) = self.with_constant(node)?;
                let constant = node.input.iter().find(|input| **input != cast)?;
                let along = match *self.constant(constant)?.dims {
                    _ if scales.len() == 1 => Along::All,
                    [_, 1] => Along::Rows,
                    [_] | [1, _] => Along::Columns,
                    _ => return None,
                };
                let name = self.made_by(&cast, "Cast")?.input.first()?.clone();
                let shared =
                    self.users(&name) > 1 || self.users(&cast) > 1 || self.users(value) > 1;
                self.matrix(&name).then_some(Quantized { name, scales, along, zero: 0, shared })
            }
            "DequantizeLinear" => {
                let q = self.dequantized_by(node, node.input.first()?)?;
                Some(Quantized { shared: q.shared || self.users(value) > 1, ..q })
            }
            _ => None,
        }
    }

    /// The matrix `name` with the parameters of the DequantizeLinear `node`.
    fn dequantized_by(&self, node: &NodeProto, name: &str) -> Option<Quantized> {
        let [_, scales, zero @ ..] = node.input.as_slice() else { return None };
        let zero = zero.first().map_or(Some(0), |zero| self.byte(zero))?;
        let scales = self.floats(scales)?;
        let along = match attribute(node, "axis").map_or(1, |axis| axis.i) {
            _ if scales.len() == 1 => Along::All,
            0 | -2 => Along::Rows,
            1 | -1 => Along::Columns,
            _ => return None,
        };
        let shared = self.users(name) > 1;
        self.matrix(name).then(|| Quantized { name: name.to_owned(), scales, along, zero, shared })
    }

    /// Whether `name` is a large tensor of two dimensions.
    fn matrix(&self, name: &str) -> bool {
        self.large
            .get(name)
            .is_some_and(|bytes| matches!(*bytes.dims, [rows, columns] if rows > 0 && columns > 0))
    }

    /// Packs the matrix for the kernel; `None` if the weights do not fit it.
    fn weights(&mut self, q: Quantized) -> Option<Weights> {
        let bytes = self.large.get(&q.name)?;
        let (rows, columns) = (bytes.dims[0], bytes.dims[1]);
        let scales: Box<[f32]> = match q.along {
            Along::All => vec![*q.scales.first()?; columns].into(),
            Along::Columns if q.scales.len() == columns => q.scales.into(),
            _ => return None,
        };
        let value = |byte: u8| integer(byte, bytes.signed) - q.zero;
        // Unsigned weights around a zero other than 128 can exceed 8 bits.
        if !bytes.values.iter().all(|byte| i8::try_from(value(*byte)).is_ok()) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation)] // Checked above.
        let weights = Weights::pack(&bytes.values, |byte| value(byte) as i8, rows, scales);
        // Frees the memory before the next matrix is packed.
        if !q.shared {
            self.large.remove(&q.name);
        }
        Some(weights)
    }

    /// Matches the addition of a constant to a product.
    pub(super) fn bias(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        if node.op_type != "Add" {
            return None;
        }
        let (product, bias) = self.with_constant(node)?;
        if self.users(&product) > 1 {
            return None;
        }
        self.extended(
            &product,
            |linear| linear.bias.is_none() && bias.len() == linear.weights.outputs(),
            |linear| {
                linear.bias = Some(bias.clone().into());
            },
        )
    }

    /// Extends the operator that writes `product`, unless its matrix is shared.
    fn extended(
        &mut self,
        product: &str,
        accepts: impl Fn(&Linear) -> bool,
        extend: impl Fn(&mut Linear),
    ) -> Found {
        let (fused, node) = self.fused_by(product)?;
        let Fused::Linear(linear) = fused else { return None };
        if !accepts(linear) {
            return None;
        }
        let (name, inputs) = (node.name.clone(), node.input.clone());
        self.packed.retain(|_, known| Arc::strong_count(known) > 2);
        let Some(Fused::Linear(linear)) = self.fused.remove(&name) else { return None };
        match Arc::try_unwrap(linear) {
            Ok(mut linear) => {
                extend(&mut linear);
                Some((Fused::Linear(Arc::new(linear)), inputs))
            }
            // Another product has the same matrix.
            Err(shared) => {
                self.fused.insert(name, Fused::Linear(shared));
                None
            }
        }
    }

    /// Matches GELU of a product, x Φ(x): the operator, or `x × (0.5 × (1 + erf(x / √2)))` with
    /// factors in any order.
    pub(super) fn gelu(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        let x = match &*node.op_type {
            "Mul" => self.gelu_of(&node.output[0])?,
            "Gelu" if attribute(node, "approximate").is_none_or(|how| how.s == b"none") => {
                node.input.first()?.clone()
            }
            _ => return None,
        };
        // In parts, `erf` and the product read `x`; other readers need it as it is.
        let readers = if node.op_type == "Mul" { 2 } else { 1 };
        if self.users(&x) > readers {
            return None;
        }
        self.extended(
            &x,
            |linear| linear.activation == Activation::None,
            |linear| linear.activation = Activation::Gelu,
        )
    }

    /// `x`, where `value` is GELU of `x` in parts.
    fn gelu_of(&self, value: &str) -> Option<String> {
        let mut factors = vec![value.to_owned()];
        let (mut half, mut erf, mut others) = (1.0, None, Vec::new());
        while let Some(factor) = factors.pop() {
            // A foreign graph can have any number of factors.
            if factors.len() + others.len() > 8 {
                return None;
            }
            if let Some(constant) = self.floats(&factor) {
                let [c] = *constant else { return None };
                half *= c;
            } else if let Some(x) = self.one_and_erf(&factor) {
                erf = Some(x);
            } else if let Some(node) = self.made_by(&factor, "Mul") {
                factors.extend(node.input.iter().cloned());
            } else {
                others.push(factor);
            }
        }
        let x = erf?;
        ((half - 0.5_f32).abs() < 1e-6 && others == [x.as_str()]).then_some(x)
    }

    /// `x`, where `value` is `1 + erf(x / √2)`.
    fn one_and_erf(&self, value: &str) -> Option<String> {
        let (erf, one) = self.by_number(value, "Add")?;
        let erf = self.made_by(&erf, "Erf")?.input.first()?;
        let root = std::f32::consts::SQRT_2;
        let of = |kind, factor: f32| {
            self.by_number(erf, kind).filter(|(_, c)| (c - factor).abs() < 1e-5)
        };
        let (x, _) = of("Div", root).or_else(|| of("Mul", 1.0 / root))?;
        ((one - 1.0).abs() < 1e-6).then_some(x)
    }
}
