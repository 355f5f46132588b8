//! Rotary position embeddings (Su et al. 2021).

use crate::config::{Pairs, Rope};

/// Cosines and sines of some positions.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// For each position those of all pairs.
    turns: Vec<(f32, f32)>,
}

impl Turns {
    /// Computes those of `count` positions from `start` on, by the angles of [`Rope::angles`].
    pub fn set(&mut self, angles: &[f32], start: usize, count: usize) {
        self.turns.clear();
        for position in start..start + count {
            #[allow(clippy::cast_precision_loss)] // Contexts are at most 2²⁴.
            let position = position as f32;
            self.turns.extend(angles.iter().map(|angle| {
                let (sin, cos) = (position * angle).sin_cos();
                (cos, sin)
            }));
        }
    }

    /// Turns the heads of each position.
    pub fn turn(&self, rope: &Rope, head_dim: usize, width: usize, rows: &mut [f32]) {
        let half = rope.dims / 2;
        for (row, turns) in rows.chunks_exact_mut(width).zip(self.turns.chunks_exact(half)) {
            for head in row.chunks_exact_mut(head_dim) {
                match rope.pairs {
                    Pairs::Interleaved => {
                        for ([x, y], turn) in head.as_chunks_mut().0.iter_mut().zip(turns) {
                            pair(x, y, *turn);
                        }
                    }
                    Pairs::Halves => {
                        let (first, second) = head[..rope.dims].split_at_mut(half);
                        for ((x, y), turn) in first.iter_mut().zip(second).zip(turns) {
                            pair(x, y, *turn);
                        }
                    }
                }
            }
        }
    }
}

#[inline]
fn pair(x: &mut f32, y: &mut f32, (cos, sin): (f32, f32)) {
    (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
}
