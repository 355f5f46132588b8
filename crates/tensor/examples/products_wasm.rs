//! Products for `benches/products.mjs`, which measures them in a browser.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::missing_panics_doc,
    clippy::must_use_candidate
)]

use edge_net_tensor::{Activations, Dtype, Matrix, MatrixBuilder};
use wasm_bindgen::prelude::*;

/// A matrix with inputs and room for their products.
#[wasm_bindgen]
pub struct Product {
    matrix: Matrix,
    values: Vec<f32>,
    input: Activations,
    out: Vec<f32>,
}

#[wasm_bindgen]
impl Product {
    /// Packs weights of a type with this number in GGUF. The binary16 fields of blocks are finite.
    #[wasm_bindgen(constructor)]
    pub fn new(ggml_type: u32, rows: usize, columns: usize, inputs: usize) -> Product {
        let dtype = Dtype::from_ggml(ggml_type).expect("a type that is known");
        let mut builder = MatrixBuilder::new(dtype, rows, columns).expect("sizes that fit");
        let mut state = 1_u32;
        let mut piece = vec![0; dtype.row_bytes(columns).expect("whole blocks")];
        for _ in 0..rows {
            for byte in &mut piece {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // No byte makes an exponent of ones or of zeros: numbers are normal.
                *byte = (state >> 24) as u8 & 0xbb | 8;
            }
            builder.push(&piece).expect("finite scales");
        }
        let values: Vec<f32> =
            (0..inputs * columns).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        Product {
            matrix: builder.finish().expect("all bytes"),
            input: Activations::quantize(&values, columns).expect("whole rows"),
            values,
            out: vec![0.0; rows * inputs],
        }
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.matrix.bytes()
    }

    /// Rounds the inputs.
    pub fn round(&mut self) {
        self.input.set(&self.values, self.matrix.columns()).expect("whole rows");
    }

    /// Multiplies.
    pub fn multiply(&mut self) {
        self.matrix.multiply(&self.input, &mut self.out).expect("sizes that fit");
    }
}

/// Memory to be read.
#[wasm_bindgen]
pub struct Memory(Vec<u64>);

#[wasm_bindgen]
impl Memory {
    /// This number of bytes.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: usize) -> Memory {
        Memory((0..bytes as u64 / 8).collect())
    }

    /// Reads all of it.
    pub fn read(&self) -> u64 {
        let mut sums = [0_u64; 8];
        for part in self.0.as_chunks::<8>().0 {
            for (sum, value) in sums.iter_mut().zip(part) {
                *sum ^= value;
            }
        }
        sums.into_iter().fold(0, |all, sum| all ^ sum)
    }
}
