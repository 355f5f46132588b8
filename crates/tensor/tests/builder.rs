//! Matrices from pieces of files.

#![allow(clippy::cast_possible_truncation)]

mod weights;

use edge_net_tensor::{Activations, Dtype, Matrix, MatrixBuilder, MatrixError};
use weights::{Random, bits, bytes, matrix};

fn products(matrix: &Matrix) -> Vec<u32> {
    let values = Random(1).values(matrix.columns());
    let mut out = vec![0.0; matrix.rows()];
    matrix.multiply(&Activations::quantize(&values, matrix.columns()).unwrap(), &mut out).unwrap();
    bits(&out)
}

fn in_pieces(dtype: Dtype, rows: usize, columns: usize, bytes: &[u8], sizes: &[usize]) -> Matrix {
    let mut builder = MatrixBuilder::new(dtype, rows, columns).unwrap();
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        builder.push(piece).unwrap();
        rest = after;
        if rest.is_empty() {
            return builder.finish().unwrap();
        }
    }
    unreachable!("sizes are given");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn pieces_of_some_sizes_make_the_same_matrix() {
    for dtype in Dtype::ALL {
        let (rows, columns) = (11, 2 * dtype.block_len());
        let bytes = bytes(dtype, rows, columns, &mut Random(5));
        let whole = products(&matrix(dtype, rows, columns, &bytes));
        for sizes in [&[1][..], &[7, 0, 300], &[dtype.block_bytes()], &[1000, 1]] {
            let pieces = in_pieces(dtype, rows, columns, &bytes, sizes);
            assert_eq!(products(&pieces), whole, "{dtype:?} in pieces of {sizes:?}");
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
proptest::proptest! {
    #[test]
    fn pieces_of_any_size_make_the_same_matrix(
        which in 0..Dtype::ALL.len(),
        rows in 1_usize..20,
        blocks in 1_usize..4,
        sizes in proptest::collection::vec(1_usize..700, 1..20),
    ) {
        let dtype = Dtype::ALL[which];
        let columns = blocks * dtype.block_len();
        let bytes = bytes(dtype, rows, columns, &mut Random(5));
        let whole = products(&matrix(dtype, rows, columns, &bytes));
        let pieces = in_pieces(dtype, rows, columns, &bytes, &sizes);
        proptest::prop_assert_eq!(products(&pieces), whole);
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn packed_weights_take_the_bytes_of_the_file() {
    for dtype in Dtype::ALL {
        let (rows, columns) = (16, 4 * dtype.block_len());
        let bytes = bytes(dtype, rows, columns, &mut Random(5));
        // The scales of Q3_K take 8 bits instead of 6.
        let more = if dtype == Dtype::Q3K { 4 * 4 * rows } else { 0 };
        // The scales and minima of Q4_K and Q5_K do, too; those of Q2_K, instead of 4.
        let more = more
            + match dtype {
                Dtype::Q4K | Dtype::Q5K => 4 * 4 * rows,
                Dtype::Q2K => 4 * 16 * rows,
                _ => 0,
            };
        assert_eq!(matrix(dtype, rows, columns, &bytes).bytes(), bytes.len() + more, "{dtype:?}");
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn what_is_not_a_matrix_is_an_error() {
    let new = |dtype, rows, columns| MatrixBuilder::new(dtype, rows, columns).map(|_| ());
    assert_eq!(new(Dtype::F32, 0, 3), Err(MatrixError::Empty { rows: 0, columns: 3 }));
    assert_eq!(new(Dtype::F32, 3, 0), Err(MatrixError::Empty { rows: 3, columns: 0 }));
    let blocks = Err(MatrixError::Blocks { dtype: Dtype::Q4K, columns: 576 });
    assert_eq!(new(Dtype::Q4K, 1, 576), blocks);
    for (rows, columns) in [(usize::MAX, 32), (32, usize::MAX - 31), (usize::MAX / 64, 32)] {
        let error = new(Dtype::Q8_0, rows, columns).unwrap_err();
        assert!(matches!(error, MatrixError::OutOfMemory { .. }), "{error}");
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn another_number_of_bytes_is_an_error() {
    let builder = || MatrixBuilder::new(Dtype::Q8_0, 3, 32).unwrap();
    let mut short = builder();
    short.push(&[0; 101]).unwrap();
    assert_eq!(short.finish().unwrap_err(), MatrixError::Bytes { expected: 102, given: 101 });
    assert!(builder().finish().is_err());
    let mut long = builder();
    long.push(&[0; 100]).unwrap();
    assert_eq!(long.push(&[0; 3]), Err(MatrixError::Bytes { expected: 102, given: 103 }));
    assert!(long.finish().is_err());
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_scale_that_is_not_finite_is_an_error() {
    for scale in [[0x00, 0x7c], [0x01, 0xfc], [0xff, 0x7f]] {
        let mut builder = MatrixBuilder::new(Dtype::Q4_1, 2, 64).unwrap();
        let mut bytes = [0; 80];
        bytes[62..64].copy_from_slice(&scale);
        assert_eq!(builder.push(&bytes), Err(MatrixError::NotFinite { row: 1, block: 1 }));
        assert!(builder.finish().is_err());
    }
}
