//! Strips of rows times inputs: which are multiplied together, and by which kernel.

#![allow(clippy::inline_always)] // The function that all is inlined into has the instructions.

use super::{
    formats::{Classic, Half, Kernel, Plain, Single, Super16, Super32, UpperHalf},
    machine::Machine,
    nbits::Zeroed,
};
use crate::{Dtype, activations::Activations, format::Kind, nbits::NBits, order::LANES};

/// Bytes of strips that are read again for the next inputs: they stay in the second-level cache.
const REREAD: usize = 64 * 1024;
/// Inputs that are multiplied with a strip at once.
const TOGETHER: usize = 4;

/// Whole strips.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights<'a> {
    pub kind: Kind,
    pub bytes: &'a [u8],
    /// Bytes of a strip.
    pub strip: usize,
}

/// Where products go: `rows` of each input. The first strip begins `before` rows earlier.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    pub values: &'a mut [f32],
    pub rows: usize,
    pub before: usize,
}

impl Output<'_> {
    #[inline(always)]
    fn put(&mut self, input: usize, strip: usize, sums: [f32; LANES]) {
        let out = &mut self.values[input * self.rows..][..self.rows];
        let at = strip * LANES;
        if at >= self.before && at + LANES - self.before <= self.rows {
            out[at - self.before..][..LANES].copy_from_slice(&sums);
            return;
        }
        for (lane, sum) in sums.into_iter().enumerate() {
            let row = (at + lane).checked_sub(self.before);
            if let Some(out) = row.and_then(|row| out.get_mut(row)) {
                *out = sum;
            }
        }
    }
}

/// Multiplies on the best machine.
pub(crate) fn multiply(weights: Weights<'_>, input: &Activations, output: Output<'_>) {
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    dispatch(OnWasm, weights, input, output);
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = pulp::x86::V3::try_new() {
        return dispatch(OnAvx2(v3), weights, input, output);
    }
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    dispatch(OnPortable, weights, input, output);
}

/// Multiplies on arrays.
#[cfg(test)]
pub(crate) fn multiply_portable(weights: Weights<'_>, input: &Activations, output: Output<'_>) {
    dispatch(OnPortable, weights, input, output);
}

/// Runs a kernel on a machine.
trait Run {
    fn run<K: Kernel>(self, weights: Weights<'_>, input: &Activations, output: Output<'_>);
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
struct OnWasm;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
impl Run for OnWasm {
    // A function for each kernel: compilers of browsers are slow on large functions, and spill.
    #[inline(never)]
    fn run<K: Kernel>(self, weights: Weights<'_>, input: &Activations, output: Output<'_>) {
        all_strips::<_, K>(super::wasm::Wasm, weights, input, output);
    }
}

#[cfg(target_arch = "x86_64")]
struct OnAvx2(pulp::x86::V3);

#[cfg(target_arch = "x86_64")]
impl Run for OnAvx2 {
    fn run<K: Kernel>(self, weights: Weights<'_>, input: &Activations, output: Output<'_>) {
        let machine = super::avx2::Avx2(self.0);
        self.0.vectorize(
            #[inline(always)]
            || all_strips::<_, K>(machine, weights, input, output),
        );
    }
}

#[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
struct OnPortable;

#[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
impl Run for OnPortable {
    #[inline(never)]
    fn run<K: Kernel>(self, weights: Weights<'_>, input: &Activations, output: Output<'_>) {
        all_strips::<_, K>(super::portable::Portable, weights, input, output);
    }
}

fn dispatch(on: impl Run, weights: Weights<'_>, input: &Activations, output: Output<'_>) {
    let dtype = match weights.kind {
        Kind::Tensor(dtype) => dtype,
        Kind::NBits(form) => return dispatch_nbits(on, form, weights, input, output),
    };
    match dtype {
        Dtype::F32 => on.run::<Plain<Single>>(weights, input, output),
        Dtype::F16 => on.run::<Plain<Half>>(weights, input, output),
        Dtype::Bf16 => on.run::<Plain<UpperHalf>>(weights, input, output),
        Dtype::Q4_0 => on.run::<Classic<0, 4, false, 8>>(weights, input, output),
        Dtype::Q4_1 => on.run::<Classic<0, 4, true, 0>>(weights, input, output),
        Dtype::Q5_0 => on.run::<Classic<1, 4, false, 16>>(weights, input, output),
        Dtype::Q5_1 => on.run::<Classic<1, 4, true, 0>>(weights, input, output),
        Dtype::Q8_0 => on.run::<Classic<0, 8, false, 128>>(weights, input, output),
        Dtype::Q2K => on.run::<Super16<0, 2, true, 0>>(weights, input, output),
        Dtype::Q3K => on.run::<Super16<1, 2, false, 2>>(weights, input, output),
        Dtype::Q4K => on.run::<Super32<0>>(weights, input, output),
        Dtype::Q5K => on.run::<Super32<1>>(weights, input, output),
        Dtype::Q6K => on.run::<Super16<2, 4, false, 5>>(weights, input, output),
    }
}

fn dispatch_nbits(
    on: impl Run,
    form: NBits,
    weights: Weights<'_>,
    input: &Activations,
    output: Output<'_>,
) {
    match (form.bits, form.parts) {
        (4, 1) => on.run::<Zeroed<4, 1>>(weights, input, output),
        (4, _) => on.run::<Zeroed<4, 2>>(weights, input, output),
        (_, 1) => on.run::<Zeroed<8, 1>>(weights, input, output),
        _ => on.run::<Zeroed<8, 2>>(weights, input, output),
    }
}

#[inline(always)]
fn all_strips<M: Machine, K: Kernel>(
    m: M,
    weights: Weights<'_>,
    input: &Activations,
    mut output: Output<'_>,
) {
    let together = (REREAD / weights.strip).max(1);
    for (group, strips) in weights.bytes.chunks(together * weights.strip).enumerate() {
        let first = group * together;
        let mut row = 0;
        while row + TOGETHER <= input.rows() {
            tile::<M, K, TOGETHER>(m, weights.strip, strips, first, input, row, &mut output);
            row += TOGETHER;
        }
        while row < input.rows() {
            tile::<M, K, 1>(m, weights.strip, strips, first, input, row, &mut output);
            row += 1;
        }
    }
}

/// Multiplies strips from the number `first` on with `T` inputs from the number `row` on.
#[inline(always)]
fn tile<M: Machine, K: Kernel, const T: usize>(
    m: M,
    strip_bytes: usize,
    strips: &[u8],
    first: usize,
    input: &Activations,
    row: usize,
    output: &mut Output<'_>,
) {
    let mut inputs = [input.row(row); T];
    for (i, inputs) in inputs.iter_mut().enumerate().skip(1) {
        *inputs = input.row(row + i);
    }
    for (i, strip) in strips.chunks_exact(strip_bytes).enumerate() {
        let mut sums = [m.splat(0.0); T];
        for (index, block) in strip.chunks_exact(K::BLOCK_BYTES).enumerate() {
            K::add(m, block, index, &inputs, &mut sums);
        }
        for (t, sum) in sums.into_iter().enumerate() {
            output.put(row + t, first + i, m.array(sum));
        }
    }
}
