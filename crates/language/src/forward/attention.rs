//! Attention of new positions to all positions, page by page of the cache.
//!
//! The softmax is summed as pages pass (Milakov and Gimelshein 2018): no position's scores are
//! kept, and a position's result does not depend on how many are computed together.

use std::ops::Range;

use super::lanes::{cap, dot, exp, greatest, sum};
use crate::cache::{Cache, PAGE, Side, Tile};
use crate::config::Config;

/// Buffers that are kept.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    keys: Vec<f32>,
    values: Vec<f32>,
    /// For each position and head of a group what is known of its softmax.
    running: Vec<Running>,
}

/// The softmax of the positions that have passed.
#[derive(Clone, Copy, Debug)]
struct Running {
    greatest: f32,
    sum: f32,
}

impl Running {
    const EMPTY: Self = Self { greatest: f32::NEG_INFINITY, sum: 0.0 };
}

/// Attention in a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attention<'a> {
    pub config: &'a Config,
    pub cache: &'a Cache,
    pub layer: usize,
    /// The first of the new positions.
    pub start: usize,
}

impl Attention<'_> {
    /// Replaces `out` by the results for the queries of the new positions: `heads × head_dim` each.
    pub fn attend(&self, queries: &[f32], buffers: &mut Buffers, out: &mut Vec<f32>) {
        out.clear();
        out.resize(queries.len(), 0.0);
        for head in 0..self.config.kv_heads {
            self.attend_group(head, queries, buffers, out);
        }
    }

    /// The heads of the query that share a head of key and value.
    fn attend_group(&self, head: usize, queries: &[f32], buffers: &mut Buffers, out: &mut [f32]) {
        let (width, dim) = (self.config.query_width(), self.config.head_dim);
        let group = self.config.heads / self.config.kv_heads;
        let count = queries.len() / width;
        let Buffers { keys, values, running } = buffers;
        running.clear();
        running.resize(count * group, Running::EMPTY);
        let all = self.visible(0).start..self.start + count;
        for page in all.start / PAGE..all.end.div_ceil(PAGE) {
            let rows = within(&all, page);
            let tile = |side| Tile { layer: self.layer, side, head };
            let keys = self.cache.read(page, tile(Side::Key), rows.clone(), keys);
            let values = self.cache.read(page, tile(Side::Value), rows.clone(), values);
            for (i, running) in running.chunks_exact_mut(group).enumerate() {
                let seen = within(&self.visible(i), page);
                if seen.is_empty() {
                    continue;
                }
                let seen = dim * (seen.start - rows.start)..dim * (seen.end - rows.start);
                let (keys, values) = (&keys[seen.clone()], &values[seen]);
                let at = i * width + head * group * dim;
                let queries = queries[at..][..group * dim].chunks_exact(dim);
                let outs = out[at..][..group * dim].chunks_exact_mut(dim);
                for ((query, out), running) in queries.zip(outs).zip(running) {
                    self.add(query, keys, values, running, out);
                }
            }
        }
        for (i, running) in running.chunks_exact(group).enumerate() {
            let at = i * width + head * group * dim;
            for (out, running) in out[at..][..group * dim].chunks_exact_mut(dim).zip(running) {
                let factor = 1.0 / running.sum;
                for out in out {
                    *out *= factor;
                }
            }
        }
    }

    /// The positions that new position number `index` sees.
    fn visible(&self, index: usize) -> Range<usize> {
        let end = self.start + index + 1;
        let window = self.config.window(self.layer).unwrap_or(end);
        end.saturating_sub(window)..end
    }

    /// Adds up to a page of positions to a head's result.
    fn add(
        &self,
        query: &[f32],
        keys: &[f32],
        values: &[f32],
        running: &mut Running,
        out: &mut [f32],
    ) {
        let mut scores = [0.0; PAGE];
        let scores = &mut scores[..keys.len() / query.len()];
        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(query.len())) {
            *score = self.config.attention_scale * dot(query, key);
        }
        if let Some(most) = self.config.attention_cap {
            cap(scores, most);
        }
        let most = greatest(scores).max(running.greatest);
        let factor = exp(running.greatest - most);
        for score in &mut *scores {
            *score = exp(*score - most);
        }
        *running = Running { greatest: most, sum: running.sum * factor + sum(scores) };
        accumulate(scores, values, factor, out);
    }
}

/// The rows of a page that are in a range of positions.
fn within(positions: &Range<usize>, page: usize) -> Range<usize> {
    let row = |position: usize| position.clamp(page * PAGE, (page + 1) * PAGE) - page * PAGE;
    row(positions.start)..row(positions.end)
}

/// `out[d] = factor · out[d] + Σ weights[j] · values[j, d]`.
fn accumulate(weights: &[f32], values: &[f32], factor: f32, out: &mut [f32]) {
    /// Sums that stay in registers.
    const TOGETHER: usize = 16;
    let dim = out.len();
    let (parts, rest) = out.as_chunks_mut::<TOGETHER>();
    let first = parts.len() * TOGETHER;
    for (part, out) in parts.iter_mut().enumerate() {
        let mut sums = [0.0; TOGETHER];
        for (weight, row) in weights.iter().zip(values.chunks_exact(dim)) {
            let row = &row[part * TOGETHER..][..TOGETHER];
            for i in 0..TOGETHER {
                sums[i] += weight * row[i];
            }
        }
        for i in 0..TOGETHER {
            out[i] = out[i] * factor + sums[i];
        }
    }
    for (i, out) in rest.iter_mut().enumerate() {
        let column = values.chunks_exact(dim).map(|row| row[first + i]);
        let sum: f32 = weights.iter().zip(column).map(|(weight, value)| weight * value).sum();
        *out = *out * factor + sum;
    }
}
