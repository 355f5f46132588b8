//! Weights of ONNX's MatMulNBits, against its definition.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]

#[allow(dead_code)] // Of other tests.
mod weights;

use edge_net_tensor::{Activations, MatMulNBits, Matrix, MatrixError, Scales};
use weights::{Random, bits};

/// Tensors of a matrix, and its values.
struct Case {
    rows: usize,
    columns: usize,
    bits: u32,
    block_size: usize,
    codes: Vec<u8>,
    scales: Vec<u8>,
    zero_points: Option<Vec<u8>>,
    values: Vec<f32>,
}

impl Case {
    fn new(rows: usize, columns: usize, bits: u32, block_size: usize, zeros: bool) -> Self {
        let mut random = Random(11);
        let blocks = columns.div_ceil(block_size);
        let codes: Vec<u8> =
            (0..rows * blocks * block_size * bits as usize / 8).map(|_| random.byte()).collect();
        let scales: Vec<f32> = random.values(rows * blocks);
        let zero_row = (blocks * bits as usize).div_ceil(8);
        let zero_points: Option<Vec<u8>> =
            zeros.then(|| (0..rows * zero_row).map(|_| random.byte()).collect());
        let integer = |bytes: &[u8], i: usize| match bits {
            8 => bytes[i],
            _ => bytes[i / 2] >> (4 * (i % 2)) & 15,
        };
        let mut values = Vec::new();
        for row in 0..rows {
            for column in 0..columns {
                let block = column / block_size;
                let zero = match &zero_points {
                    Some(zeros) => integer(&zeros[row * zero_row..], block),
                    None => 1 << (bits - 1),
                };
                let code = integer(&codes, row * blocks * block_size + column);
                values.push((f32::from(code) - f32::from(zero)) * scales[row * blocks + block]);
            }
        }
        let scales = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        Self { rows, columns, bits, block_size, codes, scales, zero_points, values }
    }

    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for bits in [4, 8] {
            for block_size in [16, 32, 64, 128, 256] {
                for (rows, columns) in [(1, 16), (5, 96), (9, 300), (12, 48)] {
                    cases.push(Self::new(rows, columns, bits, block_size, true));
                    cases.push(Self::new(rows, columns, bits, block_size, false));
                }
            }
        }
        cases
    }

    fn tensors(&self) -> MatMulNBits<'_> {
        MatMulNBits {
            rows: self.rows,
            columns: self.columns,
            bits: self.bits,
            block_size: self.block_size,
            codes: &self.codes,
            scales: Scales::F32(&self.scales),
            zero_points: self.zero_points.as_deref(),
        }
    }

    fn name(&self) -> String {
        let Self { rows, columns, bits, block_size, .. } = self;
        format!("{rows} × {columns}, {bits} bits, blocks of {block_size}")
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn rows_have_the_values_of_the_definition() {
    for case in Case::all() {
        let matrix = Matrix::from_matmul_nbits(&case.tensors()).unwrap();
        assert_eq!(matrix.dtype(), None);
        for (row, values) in case.values.chunks(case.columns).enumerate() {
            let mut out = vec![f32::NAN; case.columns];
            matrix.row(row, &mut out).unwrap();
            assert_eq!(bits(&out), bits(values), "{}", case.name());
        }
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn products_are_within_the_error_of_rounded_inputs() {
    for case in Case::all() {
        let matrix = Matrix::from_matmul_nbits(&case.tensors()).unwrap();
        let inputs = Random(4).values(5 * case.columns);
        let mut out = vec![f32::NAN; 5 * case.rows];
        let activations = Activations::quantize(&inputs, case.columns).unwrap();
        matrix.multiply(&activations, &mut out).unwrap();
        for (at, out) in out.iter().enumerate() {
            let input = &inputs[at / case.rows * case.columns..][..case.columns];
            let weights = &case.values[at % case.rows * case.columns..][..case.columns];
            let (mut exact, mut sum) = (0.0, 0.0);
            for (weight, value) in weights.iter().zip(input) {
                exact += f64::from(*weight) * f64::from(*value);
                sum += f64::from(weight.abs());
            }
            // An input, at most 1, is off by half a step of its block; a term, at most 256, and a
            // sum of as many blocks are rounded to single floats.
            let blocks = case.columns as f64 / 32.0 + 4.0;
            let rounding = case.columns as f64 * 256.0 * blocks * 2_f64.powi(-24);
            let bound = sum / 254.0 * 1.001 + rounding;
            let error = (f64::from(*out) - exact).abs();
            assert!(error <= bound, "{}: {at} is off by {error}, {bound}", case.name());
        }
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn scales_of_16_bits_are_exact() {
    let case = Case::new(3, 64, 4, 32, true);
    // 1, -2, 0.5, 2^-24, 65504, 0.
    let halves = [0x3c00_u16, 0xc000, 0x3800, 0x0001, 0x7bff, 0x0000];
    let values = [1.0, -2.0, 0.5, 2_f32.powi(-24), 65504.0, 0.0];
    let short: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    let long: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let of = |scales| Matrix::from_matmul_nbits(&MatMulNBits { scales, ..case.tensors() }).unwrap();
    let (short, long) = (of(Scales::F16(&short)), of(Scales::F32(&long)));
    for row in 0..3 {
        let (mut a, mut b) = ([f32::NAN; 64], [f32::NAN; 64]);
        short.row(row, &mut a).unwrap();
        long.row(row, &mut b).unwrap();
        assert_eq!(bits(&a), bits(&b));
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn tensors_of_other_sizes_are_errors() {
    let case = Case::new(3, 64, 4, 32, true);
    let fails = |tensors: MatMulNBits<'_>| Matrix::from_matmul_nbits(&tensors).unwrap_err();
    let good = case.tensors();
    let size = |what, expected, given| MatrixError::Size { what, expected, given };
    let short = fails(MatMulNBits { codes: &case.codes[1..], ..good });
    assert_eq!(short, size("the tensor of codes", 96, 95));
    let short = fails(MatMulNBits { scales: Scales::F32(&case.scales[4..]), ..good });
    assert_eq!(short, size("the tensor of scales", 24, 20));
    let short = fails(MatMulNBits { zero_points: Some(&[0; 2]), ..good });
    assert_eq!(short, size("the tensor of zero points", 3, 2));
    let other = fails(MatMulNBits { bits: 2, ..good });
    assert_eq!(other, MatrixError::NBits { bits: 2, block_size: 32 });
    let other = fails(MatMulNBits { block_size: 0, ..good });
    assert_eq!(other, MatrixError::NBits { bits: 4, block_size: 0 });
    let huge = fails(MatMulNBits { rows: usize::MAX, columns: usize::MAX, ..good });
    assert!(matches!(huge, MatrixError::Size { .. }), "{huge}");
    let infinite: Vec<u8> =
        [f32::INFINITY; 6].iter().flat_map(|value| value.to_le_bytes()).collect();
    let infinite = fails(MatMulNBits { scales: Scales::F32(&infinite), ..good });
    assert_eq!(infinite, MatrixError::NotFinite { row: 0, block: 0 });
}
