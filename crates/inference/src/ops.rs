//! The kernels as operators of tract, which replace recognized parts of a graph.

use std::sync::Arc;

use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::{as_op, not_out_of_plan, op_as_typed_op};
#[allow(clippy::wildcard_imports)] // Its macros expect nearly all of the module's names.
use tract_onnx::tract_hir::internal::*;

use crate::file::integer;
use crate::kernel::attention::{Heads, Shape, attention};
use crate::kernel::linear::{Activation, Rounded, Rounding, Weights, linear};
use crate::kernel::norm::layer_norm;

/// An operator of this crate.
#[derive(Clone)]
pub enum Fused {
    /// `activation(x × weights + bias)`.
    Linear(Arc<Linear>),
    /// Look-up of rows in a table of 8-bit integers.
    Lookup(Arc<Table>),
    /// Layer normalization of one input, or of the sum of two.
    Norm(Arc<Norm>),
    /// `softmax(scale × q kᵀ + mask) v` of the inputs `q`, `k`, `v` and optionally `mask`.
    Attention(Attention),
}

/// A product with a constant matrix; see [`linear`].
pub struct Linear {
    /// The matrix.
    pub weights: Weights,
    /// How `x` is rounded to integers.
    pub rounding: Rounding,
    /// One number for each column of the matrix.
    pub bias: Option<Box<[f32]>>,
    /// The activation after the product.
    pub activation: Activation,
}

/// A table of `rows` × `width` values, `(q - zero) × scale` each.
pub struct Table {
    /// Number of columns.
    pub width: usize,
    /// The values of `q`, row by row.
    pub values: Vec<u8>,
    /// Whether the values are signed.
    pub signed: bool,
    /// One scale for all rows, or one for each.
    pub scales: Vec<f32>,
    /// The integer for 0.
    pub zero: i16,
}

/// Layer normalization; see [`layer_norm`].
pub struct Norm {
    /// Factors, one for each column.
    pub scale: Vec<f32>,
    /// Summands, one for each column.
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Attention: factor and layout of the inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// The factor of the scores.
    pub scale: f32,
    /// The layout: with a number of heads, all inputs are batch × sequence × (heads × width);
    /// without, they are batch × heads × sequence × width, and the keys are
    /// batch × heads × width × sequence.
    pub heads: Option<usize>,
}

impl Table {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// Writes a row to `out`.
    fn read(&self, row: usize, out: &mut [f32]) {
        let scale = if self.scales.len() == 1 { self.scales[0] } else { self.scales[row] };
        let zero = self.zero;
        for (out, byte) in out.iter_mut().zip(&self.values[row * self.width..]) {
            *out = f32::from(integer(*byte, self.signed) - zero) * scale;
        }
    }
}

impl std::fmt::Debug for Fused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Linear(op) => write!(
                f,
                "Linear {}x{} {:?}",
                op.weights.inputs(),
                op.weights.outputs(),
                op.activation
            ),
            Self::Lookup(table) => write!(f, "Lookup {}x{}", table.rows(), table.width),
            Self::Norm(norm) => write!(f, "Norm {}", norm.scale.len()),
            Self::Attention(op) => write!(f, "{op:?}"),
        }
    }
}

impl PartialEq for Fused {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Linear(a), Self::Linear(b)) => Arc::ptr_eq(a, b),
            (Self::Lookup(a), Self::Lookup(b)) => Arc::ptr_eq(a, b),
            (Self::Norm(a), Self::Norm(b)) => Arc::ptr_eq(a, b),
            (Self::Attention(a), Self::Attention(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Fused {}

impl Op for Fused {
    fn name(&self) -> StaticName {
        match self {
            Self::Linear(_) => "Linear8",
            Self::Lookup(_) => "Lookup8",
            Self::Norm(_) => "LayerNorm",
            Self::Attention(_) => "Attention",
        }
        .into()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for Fused {
    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let out = match self {
            Self::Linear(op) => op.eval(&inputs[0])?,
            Self::Lookup(table) => table.eval(&inputs[0])?,
            Self::Norm(norm) => norm.eval(&inputs)?,
            Self::Attention(op) => op.eval(&inputs)?,
        };
        Ok(tvec!(out.into_tvalue()))
    }

    not_out_of_plan!();
}

impl TypedOp for Fused {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let of = |i: usize| {
            inputs.get(i).with_context(|| format!("{} has too few inputs", Op::name(self)))
        };
        let first = of(0)?;
        if !matches!(self, Self::Lookup(_)) {
            ensure!(
                inputs.iter().all(|fact| fact.datum_type == f32::datum_type()),
                "{} needs single floats",
                Op::name(self)
            );
        }
        let mut shape: TVec<TDim> = first.shape.to_tvec();
        match self {
            Self::Linear(op) => {
                let last = shape.last_mut().context("Linear8 of a scalar")?;
                ensure!(
                    *last == op.weights.inputs().to_dim(),
                    "{} columns for {} weights",
                    last,
                    op.weights.inputs()
                );
                *last = op.weights.outputs().to_dim();
            }
            Self::Lookup(table) => {
                ensure!(first.datum_type.is_integer(), "Lookup8 by {:?}", first.datum_type);
                shape.push(table.width.to_dim());
            }
            Self::Norm(norm) => {
                if inputs.len() == 2 {
                    shape = multi_broadcast(&[shape, of(1)?.shape.to_tvec()])?;
                }
                ensure!(
                    shape.last() == Some(&norm.scale.len().to_dim()),
                    "LayerNorm of {:?}",
                    shape.last()
                );
            }
            Self::Attention(op) => {
                let (key, value) = (of(1)?, of(2)?);
                let rank = if op.heads.is_some() { 3 } else { 4 };
                ensure!(
                    inputs[..3].iter().all(|fact| fact.rank() == rank),
                    "Attention needs inputs of {rank} dimensions"
                );
                ensure!(
                    key.shape[0] == value.shape[0] && shape[0] == key.shape[0],
                    "Attention needs inputs of one batch size"
                );
                shape[rank - 1] = value.shape[rank - 1].clone();
            }
        }
        Ok(tvec!(f32::fact(shape)))
    }
}

impl Expansion for Fused {
    fn name(&self) -> StaticName {
        Op::name(self)
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        // `output_facts` gives the shapes when the node is wired.
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        match self {
            Self::Lookup(_) => s.equals(inputs[0].rank.bex() + 1, &outputs[0].rank),
            Self::Norm(_) => Ok(()),
            Self::Linear(_) | Self::Attention(_) => s.equals(&inputs[0].rank, &outputs[0].rank),
        }
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

/// The values of a tensor of single floats.
fn floats(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice()
}

/// A tensor of this shape, filled by `fill`.
fn filled(
    shape: &[usize],
    fill: impl FnOnce(&mut [f32]) -> TractResult<()>,
) -> TractResult<Tensor> {
    let mut out = Tensor::zero::<f32>(shape)?;
    fill(out.try_as_plain_ram_mut()?.as_slice_mut()?)?;
    Ok(out)
}

impl Linear {
    fn eval(&self, x: &Tensor) -> TractResult<Tensor> {
        let mut shape: TVec<usize> = x.shape().into();
        let last = shape.last_mut().context("Linear8 of a scalar")?;
        ensure!(
            *last == self.weights.inputs(),
            "{last} columns for {} weights",
            self.weights.inputs()
        );
        *last = self.weights.outputs();
        let length = if shape.len() > 1 { shape[shape.len() - 2] } else { 1 };
        let rounded = Rounded::of(floats(x)?, self.weights.inputs(), length, self.rounding);
        filled(&shape, |out| {
            linear(&rounded, &self.weights, self.bias.as_deref(), self.activation, out);
            Ok(())
        })
    }
}

impl Table {
    fn eval(&self, numbers: &Tensor) -> TractResult<Tensor> {
        let mut shape: TVec<usize> = numbers.shape().into();
        shape.push(self.width);
        let numbers = numbers.cast_to::<i64>()?;
        let numbers = numbers.try_as_plain_ram()?.as_slice::<i64>()?;
        let rows = self.rows();
        filled(&shape, |out| {
            for (number, out) in numbers.iter().zip(out.chunks_exact_mut(self.width)) {
                let row = usize::try_from(*number).ok().filter(|row| *row < rows);
                self.read(row.with_context(|| format!("row {number} of a table of {rows}"))?, out);
            }
            Ok(())
        })
    }
}

impl Norm {
    fn eval(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let [x, rest @ ..] = inputs else { bail!("LayerNorm has no input") };
        let shape: TVec<usize> = match rest {
            [] => x.shape().into(),
            [y, ..] => multi_broadcast(&[x.shape(), y.shape()])?,
        };
        filled(&shape, |out| {
            out.copy_from_slice(floats(&*broadcast(x, &shape)?)?);
            if let [y, ..] = rest {
                let y = broadcast(y, &shape)?;
                out.iter_mut().zip(floats(&y)?).for_each(|(out, y)| *out += y);
            }
            layer_norm(out, &self.scale, &self.bias, self.epsilon);
            Ok(())
        })
    }
}

/// `x`, broadcast to `shape`.
fn broadcast<'a>(x: &'a Tensor, shape: &[usize]) -> TractResult<std::borrow::Cow<'a, Tensor>> {
    if x.shape() == shape {
        return Ok(std::borrow::Cow::Borrowed(x));
    }
    let mut x = x.clone();
    x.broadcast_to_rank(shape.len())?;
    Ok(std::borrow::Cow::Owned(x.broadcast_to_shape(shape)?))
}

impl Attention {
    fn eval(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let [q, k, v, mask @ ..] = inputs else { bail!("Attention has too few inputs") };
        let size = |tensor: &Tensor, keys: bool| -> TractResult<[usize; 4]> {
            match (tensor.shape(), self.heads) {
                (&[batch, sequence, all], Some(heads)) if heads > 0 && all % heads == 0 => {
                    Ok([batch, heads, sequence, all / heads])
                }
                (&[batch, heads, width, sequence], None) if keys => {
                    Ok([batch, heads, sequence, width])
                }
                (&[batch, heads, sequence, width], None) => Ok([batch, heads, sequence, width]),
                (shape, heads) => bail!("Attention of {shape:?} in {heads:?} heads"),
            }
        };
        let strides = |[_, heads, sequence, width]: [usize; 4], keys: bool| match self.heads {
            Some(_) => [heads * sequence * width, width, heads * width, 1],
            None if keys => [heads * sequence * width, sequence * width, 1, sequence],
            None => [heads * sequence * width, sequence * width, width, 1],
        };
        let (of_q, of_k, of_v) = (size(q, false)?, size(k, true)?, size(v, false)?);
        let [batch, heads, queries, width] = of_q;
        let [.., keys, value_width] = of_v;
        ensure!(
            of_k == [batch, heads, keys, width] && of_v[..2] == [batch, heads],
            "Attention of {of_q:?}, {of_k:?}, {of_v:?}"
        );
        let shape = Shape { batch, heads, queries, keys, width, value_width };
        let all = [batch, heads, queries, keys];
        let mask = mask.first().map(|mask| self::mask(mask, all)).transpose()?.flatten();
        let of_out = [batch, heads, queries, value_width];
        let out: TVec<usize> = if self.heads.is_some() {
            tvec![batch, queries, heads * value_width]
        } else {
            of_out.into()
        };
        filled(&out, |out| {
            let q = Heads { values: floats(q)?, strides: strides(of_q, false) };
            let k = Heads { values: floats(k)?, strides: strides(of_k, true) };
            let v = Heads { values: floats(v)?, strides: strides(of_v, false) };
            attention(shape, (q, k, v), mask, self.scale, out, strides(of_out, false));
            Ok(())
        })
    }
}

/// The mask broadcast to `all` by strides; `None` if it is 0 everywhere.
fn mask(mask: &Tensor, all: [usize; 4]) -> TractResult<Option<Heads<'_>>> {
    let values = floats(mask)?;
    if values.iter().all(|value| *value == 0.0) {
        return Ok(None);
    }
    ensure!(mask.rank() <= 4, "a mask of {} dimensions", mask.rank());
    let mut strides = [0; 4];
    for (from_last, (size, stride)) in mask.shape().iter().zip(mask.strides()).rev().enumerate() {
        let at = 3 - from_last;
        ensure!(*size == 1 || *size == all[at], "a mask of {:?} for {all:?}", mask.shape());
        strides[at] = if *size == 1 { 0 } else { usize::try_from(*stride)? };
    }
    Ok(Some(Heads { values, strides }))
}
