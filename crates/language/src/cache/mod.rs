//! Keys and values of the positions that are computed.

mod error;
mod page;

pub use error::CacheError;
pub use page::Storage;
pub(crate) use page::{PAGE, Side, Tile};

use std::ops::Range;

use crate::config::Config;
use page::{Page, Shape};

/// Keys and values of a sequence of tokens, for all layers.
///
/// Memory is taken for 64 positions at a time, and kept until [`Cache::shrink`].
#[derive(Debug)]
pub struct Cache {
    shape: Shape,
    context: usize,
    pages: Vec<Page>,
    tokens: Vec<u32>,
}

impl Cache {
    /// An empty cache for a decoder, of at most `context` tokens. The decoder's own limit applies
    /// too.
    #[must_use]
    pub fn new(config: &Config, storage: Storage, context: usize) -> Self {
        let shape = Shape {
            layers: config.layers,
            heads: config.kv_heads,
            head_dim: config.head_dim,
            storage,
        };
        let context = context.min(config.context);
        Self { shape, context, pages: Vec::new(), tokens: Vec::new() }
    }

    /// The tokens whose keys and values it has.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it has no token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The most tokens it takes.
    #[must_use]
    pub const fn context(&self) -> usize {
        self.context
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pages.len() * self.shape.page_bytes().unwrap_or(0)
            + self.tokens.capacity() * size_of::<u32>()
    }

    /// Drops all tokens from number `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.tokens.truncate(length);
    }

    /// Drops all tokens.
    pub fn clear(&mut self) {
        self.tokens.clear();
    }

    /// Gives memory back that no token uses.
    pub fn shrink(&mut self) {
        self.pages.truncate(self.tokens.len().div_ceil(PAGE));
        self.pages.shrink_to_fit();
        self.tokens.shrink_to_fit();
    }

    /// How many of `tokens` it begins with.
    #[must_use]
    pub fn longest_common_prefix(&self, tokens: &[u32]) -> usize {
        self.tokens.iter().zip(tokens).take_while(|(own, other)| own == other).count()
    }

    /// Keeps what it has in common with the beginning of `tokens`, and returns the number of those
    /// that need not be computed. At least the last one does: its logits are not kept.
    pub fn reuse(&mut self, tokens: &[u32]) -> usize {
        let length = self.longest_common_prefix(tokens).min(tokens.len().saturating_sub(1));
        self.truncate(length);
        length
    }

    /// Adds tokens, whose keys and values are to be written.
    pub(crate) fn extend(&mut self, tokens: &[u32]) -> Result<(), CacheError> {
        let needed = self.tokens.len().saturating_add(tokens.len());
        if needed > self.context {
            return Err(CacheError::Full { context: self.context, needed });
        }
        let no_room = || CacheError::OutOfMemory { tokens: needed };
        while self.pages.len() < needed.div_ceil(PAGE) {
            self.pages.push(Page::new(&self.shape).ok_or_else(no_room)?);
        }
        self.tokens.try_reserve(tokens.len()).map_err(|_| no_room())?;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Whether it is for such a decoder.
    pub(crate) fn fits(&self, config: &Config) -> bool {
        let Shape { layers, heads, head_dim, .. } = self.shape;
        (layers, heads, head_dim) == (config.layers, config.kv_heads, config.head_dim)
    }

    /// Writes keys or values of a layer, for positions from `start` on: `heads × head_dim` each.
    pub(crate) fn write(
        &mut self,
        layer: usize,
        side: Side,
        start: usize,
        rows: &[f32],
    ) -> Result<(), CacheError> {
        let width = self.shape.heads * self.shape.head_dim;
        for (position, row) in (start..).zip(rows.chunks_exact(width)) {
            // 0, or not a number.
            let fault: f32 = row.iter().map(|value| value * 0.0).sum();
            if fault != 0.0 {
                return Err(CacheError::NotFinite { layer, position });
            }
            for (head, values) in row.chunks_exact(self.shape.head_dim).enumerate() {
                let tile = Tile { layer, side, head };
                self.pages[position / PAGE].write(&self.shape, tile, position % PAGE, values);
            }
        }
        Ok(())
    }

    /// The values of a tile's rows, `head_dim` each: in place, or computed into `out`.
    pub(crate) fn read<'a>(
        &'a self,
        page: usize,
        tile: Tile,
        rows: Range<usize>,
        out: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        self.pages[page].read(&self.shape, tile, rows, out)
    }
}
