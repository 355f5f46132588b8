//! Products with packed weights, against sums over the file's values.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]

mod weights;

use edge_net_tensor::{Activations, Dtype, Matrix, MatrixError, dequantize};
use weights::{Random, bits, bytes, matrix};

/// Rows, blocks of a row (or elements of it), and inputs.
const SIZES: [(usize, usize, usize); 7] =
    [(1, 1, 1), (3, 2, 5), (4, 1, 4), (7, 3, 2), (8, 2, 1), (9, 1, 9), (21, 2, 4)];

/// A matrix, its values, and inputs.
struct Case {
    name: String,
    matrix: Matrix,
    values: Vec<f32>,
    inputs: Vec<f32>,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        let mut random = Random(7);
        for dtype in Dtype::ALL {
            for (rows, blocks, inputs) in SIZES {
                let columns = blocks * dtype.block_len();
                cases.push(Self::new(dtype, rows, columns, inputs, &mut random));
            }
        }
        cases.push(Self::new(Dtype::F32, 5, 101, 6, &mut random));
        cases.push(Self::new(Dtype::F16, 6, 30, 3, &mut random));
        cases.push(Self::new(Dtype::Q4_1, 13, 576, 4, &mut random));
        cases.push(Self::new(Dtype::Q8_0, 13, 1056, 1, &mut random));
        cases
    }

    fn new(dtype: Dtype, rows: usize, columns: usize, inputs: usize, random: &mut Random) -> Self {
        let bytes = bytes(dtype, rows, columns, random);
        let mut values = vec![0.0; rows * columns];
        dequantize(dtype, &bytes, &mut values).unwrap();
        Self {
            name: format!("{dtype:?}, {rows} × {columns}, {inputs} inputs"),
            matrix: matrix(dtype, rows, columns, &bytes),
            values,
            inputs: random.values(inputs * columns),
        }
    }

    fn activations(&self) -> Activations {
        Activations::quantize(&self.inputs, self.matrix.columns()).unwrap()
    }

    /// What is checked of each output: its index, weights and inputs.
    fn outputs(&self) -> impl Iterator<Item = (usize, &[f32], &[f32])> {
        let (rows, columns) = (self.matrix.rows(), self.matrix.columns());
        self.inputs
            .chunks(columns)
            .enumerate()
            .flat_map(move |(b, input)| {
                let rows = self.values.chunks(columns).enumerate();
                rows.map(move |(r, weights)| (b * self.matrix.rows() + r, weights, input))
            })
            .inspect(move |(at, ..)| assert!(*at < rows * self.inputs.len()))
    }

    fn out(&self) -> Vec<f32> {
        vec![f32::NAN; self.matrix.rows() * self.inputs.len() / self.matrix.columns()]
    }
}

fn exact(weights: &[f32], input: &[f32]) -> f64 {
    weights.iter().zip(input).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum()
}

/// The greatest error of a product of rounded inputs.
///
/// An input is off by half a step of its block. A minimum, at most 1/4, is multiplied by a sum of
/// inputs that is off by half of 1/32767 of the greatest, at most 32 × the greatest input. A single
/// float is off by 2^-24 of a sum of terms, each at most (weight + 2 × minimum) × input, in each of
/// as many steps as there are blocks, and a few.
fn bound(dtype: Dtype, weights: &[f32], input: &[f32]) -> f64 {
    let most =
        |values: &[f32]| f64::from(values.iter().fold(0.0, |most: f32, v| most.max(v.abs())));
    let columns = weights.len() as f64;
    let rounding =
        columns * (most(weights) + 0.5) * most(input) * (columns / 32.0 + 8.0) * 2_f64.powi(-24);
    if dtype.block_len() == 1 {
        return columns.max(4.0) * rounding;
    }
    let steps = weights.chunks(32).zip(input.chunks(32)).map(|(weights, input)| {
        let sum: f64 = weights.iter().map(|weight| f64::from(weight.abs())).sum();
        sum * most(input) / 127.0 * 0.5001
    });
    steps.sum::<f64>() + columns / 32.0 * 0.25 * 32.0 * most(input) / 65534.0 + rounding
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn products_are_within_the_error_of_rounded_inputs() {
    for case in Case::all() {
        let mut out = case.out();
        case.matrix.multiply(&case.activations(), &mut out).unwrap();
        for (at, weights, input) in case.outputs() {
            let error = (f64::from(out[at]) - exact(weights, input)).abs();
            let bound = bound(case.matrix.dtype().unwrap(), weights, input);
            assert!(error <= bound, "{}: output {at} is off by {error}, {bound}", case.name);
        }
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn exact_products_are_rounded_once() {
    for case in Case::all() {
        let mut out = case.out();
        case.matrix.multiply_exact(&case.activations(), &mut out).unwrap();
        for (at, weights, input) in case.outputs() {
            assert_eq!(
                out[at].to_bits(),
                (exact(weights, input) as f32).to_bits(),
                "{}",
                case.name
            );
        }
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn rows_have_the_values_of_the_file() {
    for case in Case::all() {
        let columns = case.matrix.columns();
        for (row, values) in case.values.chunks(columns).enumerate() {
            let mut out = vec![f32::NAN; columns];
            case.matrix.row(row, &mut out).unwrap();
            assert_eq!(bits(&out), bits(values), "{}, row {row}", case.name);
        }
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_range_of_rows_has_the_products_of_the_whole() {
    for case in Case::all() {
        let rows = case.matrix.rows();
        let input = case.activations();
        let mut whole = case.out();
        case.matrix.multiply(&input, &mut whole).unwrap();
        for range in
            [0..rows, 0..0, rows..rows, rows / 2..rows, 0..rows / 2, rows / 3..rows - rows / 4]
        {
            let mut out = vec![f32::NAN; range.len() * input.rows()];
            case.matrix.multiply_rows(range.clone(), &input, &mut out).unwrap();
            let part: Vec<f32> =
                whole.chunks(rows).flat_map(|products| &products[range.clone()]).copied().collect();
            assert_eq!(bits(&out), bits(&part), "{}, rows {range:?}", case.name);
        }
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn an_input_has_the_same_products_alone_and_among_others() {
    for case in Case::all() {
        let mut together = case.out();
        case.matrix.multiply(&case.activations(), &mut together).unwrap();
        let (rows, columns) = (case.matrix.rows(), case.matrix.columns());
        let mut input = Activations::new();
        let mut out = vec![f32::NAN; rows];
        for (values, together) in case.inputs.chunks(columns).zip(together.chunks(rows)) {
            input.set(values, columns).unwrap();
            case.matrix.multiply(&input, &mut out).unwrap();
            assert_eq!(bits(&out), bits(together), "{}", case.name);
        }
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn transposed_products_are_added() {
    for case in Case::all() {
        let (rows, columns) = (case.matrix.rows(), case.matrix.columns());
        let gradient = Random(3).values(2 * rows);
        let mut out = vec![0.5; 2 * columns];
        case.matrix.multiply_transposed(&gradient, &mut out).unwrap();
        for (at, out) in out.iter().enumerate() {
            let column: Vec<f32> =
                case.values.iter().skip(at % columns).step_by(columns).copied().collect();
            let gradient = &gradient[at / columns * rows..][..rows];
            let error = f64::from(*out) - 0.5 - exact(&column, gradient);
            let most = column.iter().fold(0.5, |most: f32, weight| most.max(weight.abs()));
            let bound = (rows as f64 + 1.0).powi(2) * f64::from(most) * 2_f64.powi(-24);
            assert!(error.abs() <= bound, "{}: {at} is off by {error}, {bound}", case.name);
        }
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn what_is_not_a_number_reaches_all_products() {
    let mut random = Random(9);
    for dtype in Dtype::ALL {
        let columns = dtype.block_len() * 4;
        let matrix = matrix(dtype, 3, columns, &bytes(dtype, 3, columns, &mut random));
        let mut values = random.values(2 * columns);
        values[columns / 2] = f32::NAN;
        let mut out = [0.0; 6];
        let input = Activations::quantize(&values, columns).unwrap();
        matrix.multiply(&input, &mut out).unwrap();
        assert!(out[..3].iter().all(|value| value.is_nan()), "{dtype:?}: {out:?}");
        assert!(out[3..].iter().all(|value| value.is_finite()), "{dtype:?}: {out:?}");
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn other_sizes_are_errors() {
    let matrix = matrix(Dtype::F32, 2, 3, &[0; 24]);
    let input = Activations::quantize(&[0.0; 6], 3).unwrap();
    let other = Activations::quantize(&[0.0; 6], 2).unwrap();
    let (mut short, mut fit) = ([0.0; 3], [0.0; 4]);
    let size = |what, expected, given| Err(MatrixError::Size { what, expected, given });
    assert_eq!(matrix.multiply(&input, &mut short), size("the output", 4, 3));
    assert_eq!(matrix.multiply(&other, &mut fit), size("a row of the input", 3, 2));
    assert_eq!(matrix.multiply_exact(&other, &mut fit), size("a row of the input", 3, 2));
    let beyond = Err(MatrixError::NoRow { row: 3, rows: 2 });
    assert_eq!(matrix.multiply_rows(0..3, &input, &mut fit), beyond);
    assert_eq!(matrix.row(2, &mut short), Err(MatrixError::NoRow { row: 2, rows: 2 }));
    assert_eq!(matrix.row(1, &mut fit), size("a row's output", 3, 4));
    assert_eq!(matrix.multiply_transposed(&fit[..3], &mut short), size("the gradient", 2, 3));
    assert_eq!(matrix.multiply_transposed(&[0.0; 4], &mut fit), size("the output", 6, 4));
    assert!(Activations::quantize(&[0.0; 5], 3).is_err());
    assert!(Activations::quantize(&[], 0).is_err());
}
