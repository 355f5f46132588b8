//! Random weights and inputs.

use edge_net_tensor::{Dtype, Matrix, MatrixBuilder};

/// Numbers that differ, and are the same everywhere.
pub struct Random(pub u32);

impl Random {
    pub fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 24) as u8
    }

    /// From -1 to 1.
    pub fn value(&mut self) -> f32 {
        (f32::from(self.byte()) - 127.5 + f32::from(self.byte()) / 256.0) / 128.0
    }

    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }
}

/// Where the binary16 fields of a block are.
fn halves(dtype: Dtype) -> &'static [usize] {
    match dtype {
        Dtype::F16 | Dtype::Q4_0 | Dtype::Q5_0 | Dtype::Q8_0 => &[0],
        Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q4K | Dtype::Q5K => &[0, 2],
        Dtype::Q2K => &[80, 82],
        Dtype::Q3K => &[108],
        Dtype::Q6K => &[208],
        _ => &[],
    }
}

/// Blocks whose scales and minima have magnitudes from 2^-10 to 2^-8; floats up to 2.
pub fn bytes(dtype: Dtype, rows: usize, columns: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rows * columns / dtype.block_len() {
        match dtype {
            Dtype::F32 => bytes.extend(random.value().to_le_bytes()),
            Dtype::Bf16 => bytes.extend(&random.value().to_le_bytes()[2..]),
            _ => {
                let first = bytes.len();
                bytes.extend((0..dtype.block_bytes()).map(|_| random.byte()));
                for at in halves(dtype) {
                    let exponent = if dtype == Dtype::F16 { 0x3c } else { 0x14 };
                    let upper = &mut bytes[first + at + 1];
                    *upper = *upper & 0x87 | exponent;
                }
            }
        }
    }
    bytes
}

pub fn matrix(dtype: Dtype, rows: usize, columns: usize, bytes: &[u8]) -> Matrix {
    let mut builder = MatrixBuilder::new(dtype, rows, columns).unwrap();
    builder.push(bytes).unwrap();
    builder.finish().unwrap()
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
