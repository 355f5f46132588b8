//! Products with constant matrices of 8-bit integers, what follows them, and tables of such integers.

use std::sync::Arc;

use tract_onnx::pb::NodeProto;

use super::graph::attribute;
use super::{Found, Graph};
use crate::file::{Bytes, integer};
use crate::kernel::linear::{Activation, Rounding, Weights};
use crate::ops::{Fused, Linear, Table};

/// Which weights a scale is for.
enum Along {
    All,
    Rows,
    Columns,
}

/// A large matrix of integers, and what makes floats of it.
struct Quantised {
    name: String,
    scales: Vec<f32>,
    along: Along,
    /// What stands for 0.
    zero: i16,
    /// Whether somebody needs it besides.
    shared: bool,
}

impl Graph {
    /// Rows of a table, by their numbers: of what was made floats before, or is made floats afterwards.
    pub(super) fn lookup(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        let (gather, q) = match &*node.op_type {
            "Gather" => (node, self.dequantised(node.input.first()?)?),
            "DequantizeLinear" => {
                let gather = self.made_by(node.input.first()?, "Gather")?;
                let q = self.dequantised_by(node, gather.input.first()?)?;
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
        // What is shared is there twice.
        let Bytes { dims, signed, values } =
            if q.shared { bytes.clone() } else { self.large.remove(&q.name)? };
        let table =
            Arc::new(Table { width: dims[1], values, signed, scales: q.scales, zero: q.zero });
        self.tables.insert(q.name, Arc::clone(&table));
        Some((Fused::Lookup(table), vec![numbers]))
    }

    /// A product with a constant matrix: of floats, or of what DynamicQuantizeLinear made of them.
    pub(super) fn product(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        let (x, q, rounding) = match (&*node.op_type, node.input.as_slice()) {
            ("MatMul", [x, matrix]) => (x.clone(), self.dequantised(matrix)?, Rounding::Rows),
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

    /// `x` and the matrix, where `product` is the sums of products of integers, and `scales` what those are worth.
    fn product_of_bytes(&self, product: &str, scales: &str) -> Option<(String, Quantised)> {
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
            .then(|| (x, Quantised { name: matrix.clone(), scales, along, zero, shared }))
    }

    /// What `value` is, if it is made of a large matrix.
    fn dequantised(&self, value: &str) -> Option<Quantised> {
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
                self.matrix(&name).then_some(Quantised { name, scales, along, zero: 0, shared })
            }
            "DequantizeLinear" => {
                let q = self.dequantised_by(node, node.input.first()?)?;
                Some(Quantised { shared: q.shared || self.users(value) > 1, ..q })
            }
            _ => None,
        }
    }

    /// What the DequantizeLinear `node` makes of the matrix `name`.
    fn dequantised_by(&self, node: &NodeProto, name: &str) -> Option<Quantised> {
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
        self.matrix(name).then(|| Quantised { name: name.to_owned(), scales, along, zero, shared })
    }

    /// Whether this is a large tensor of two dimensions.
    fn matrix(&self, name: &str) -> bool {
        self.large
            .get(name)
            .is_some_and(|bytes| matches!(*bytes.dims, [rows, columns] if rows > 0 && columns > 0))
    }

    fn weights(&mut self, q: Quantised) -> Option<Weights> {
        let bytes = self.large.get(&q.name)?;
        let (rows, columns) = (bytes.dims[0], bytes.dims[1]);
        let scales: Box<[f32]> = match q.along {
            Along::All => vec![*q.scales.first()?; columns].into(),
            Along::Columns if q.scales.len() == columns => q.scales.into(),
            _ => return None,
        };
        let value = |byte: u8| integer(byte, bytes.signed) - q.zero;
        // Of unsigned ones around a 0 that is not in the middle, some have no place in 8 bits.
        if !bytes.values.iter().all(|byte| i8::try_from(value(*byte)).is_ok()) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation)] // They fit, see above.
        let weights = Weights::pack(&bytes.values, |byte| value(byte) as i8, rows, scales);
        // Not needed any more, while others are still to be packed.
        if !q.shared {
            self.large.remove(&q.name);
        }
        Some(weights)
    }

    /// A product, then an addition of what is constant.
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

    /// A product's operator with something more, if nobody else needs the product itself.
    fn extended(
        &mut self,
        product: &str,
        may: impl Fn(&Linear) -> bool,
        extend: impl Fn(&mut Linear),
    ) -> Found {
        let (fused, node) = self.fused_by(product)?;
        let Fused::Linear(linear) = fused else { return None };
        if !may(linear) {
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
            // The matrix is somebody else's too.
            Err(shared) => {
                self.fused.insert(name, Fused::Linear(shared));
                None
            }
        }
    }

    /// x Φ(x) of a product: `x × (0.5 × (1 + erf(x / √2)))`, however that is put together.
    pub(super) fn gelu(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        let x = match &*node.op_type {
            "Mul" => self.gelu_of(&node.output[0])?,
            "Gelu" if attribute(node, "approximate").is_none_or(|how| how.s == b"none") => {
                node.input.first()?.clone()
            }
            _ => return None,
        };
        // By its parts, one takes it for `erf`, and one for the product; nobody else may.
        let inner = if node.op_type == "Mul" { 2 } else { 1 };
        if self.users(&x) > inner {
            return None;
        }
        self.extended(
            &x,
            |linear| linear.activation == Activation::None,
            |linear| linear.activation = Activation::Gelu,
        )
    }

    fn gelu_of(&self, value: &str) -> Option<String> {
        let mut factors = vec![value.to_owned()];
        let (mut half, mut erf, mut others) = (1.0, None, Vec::new());
        while let Some(factor) = factors.pop() {
            // There is no end to what may be written.
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

    /// x, where `value` is `1 + erf(x / √2)`.
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
