//! Measures products of each type: bytes of weights a second for one input, as in decoding, and
//! products a second for 32, as in prompts.
//!
//!     cargo run --release --package edge-net-tensor --example products [type…]

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // Small numbers.

use std::{hint::black_box, time::Instant};

use edge_net_tensor::{Activations, Dtype, Matrix, MatrixBuilder};

const COLUMNS: usize = 2048;
/// Bytes of a matrix that caches do not hold.
const LARGE: usize = 96 << 20;
/// Rows of a matrix that is multiplied with many inputs.
const ROWS: usize = 2048;
const INPUTS: usize = 32;
const TRIES: usize = 9;

/// Bytes whose binary16 fields are finite, and the seconds to pack them.
fn matrix(dtype: Dtype, rows: usize) -> (Matrix, f64) {
    let size = rows * dtype.row_bytes(COLUMNS).unwrap();
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // No byte makes an exponent of ones or of zeros: numbers are normal.
        (state >> 24) as u8 & 0xbb | 8
    };
    let bytes: Vec<u8> = (0..size).map(|_| byte()).collect();
    let start = Instant::now();
    let mut builder = MatrixBuilder::new(dtype, rows, COLUMNS).unwrap();
    bytes.chunks(1 << 16).for_each(|piece| builder.push(piece).unwrap());
    (builder.finish().unwrap(), start.elapsed().as_secs_f64())
}

/// The least seconds of some tries.
fn seconds(mut run: impl FnMut()) -> f64 {
    let time = || {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    std::iter::repeat_with(time).take(TRIES).fold(f64::INFINITY, f64::min)
}

fn input(rows: usize) -> Activations {
    let value = |i| ((i * 37 % 101) as f32 - 50.0) / 50.0;
    let values: Vec<f32> = (0..rows * COLUMNS).map(value).collect();
    Activations::quantize(&values, COLUMNS).unwrap()
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    println!("type   pack GB/s  decode GB/s  decode G products/s  prompt G products/s");
    for dtype in Dtype::ALL {
        if !asked.is_empty() && !asked.contains(&format!("{dtype:?}")) {
            continue;
        }
        let rows = LARGE / dtype.row_bytes(COLUMNS).unwrap();
        let (large, pack) = matrix(dtype, rows);
        let one = input(1);
        let mut out = vec![0.0; rows];
        let decode = seconds(|| large.multiply(black_box(&one), &mut out).unwrap());
        drop(large);
        let (small, _) = matrix(dtype, ROWS);
        let many = input(INPUTS);
        let mut out = vec![0.0; ROWS * INPUTS];
        let prompt = seconds(|| small.multiply(black_box(&many), &mut out).unwrap());
        println!(
            "{:5} {:10.2} {:12.1} {:20.1} {:20.1}",
            format!("{dtype:?}"),
            LARGE as f64 / pack / 1e9,
            LARGE as f64 / decode / 1e9,
            (rows * COLUMNS) as f64 / decode / 1e9,
            (ROWS * COLUMNS * INPUTS) as f64 / prompt / 1e9,
        );
    }
}
