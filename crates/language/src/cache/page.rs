//! Keys and values of 64 positions.

use std::ops::Range;

use edge_net_tensor::half;

/// Positions of a page.
pub(crate) const PAGE: usize = 64;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// IEEE 754 binary16: half the memory.
    #[default]
    F16,
    /// IEEE 754 binary32: nothing is rounded. For tests.
    F32,
}

/// What a page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub layers: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub storage: Storage,
}

impl Shape {
    /// Numbers of a page.
    fn page(&self) -> Option<usize> {
        self.layers.checked_mul(self.heads)?.checked_mul(self.head_dim)?.checked_mul(2 * PAGE)
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> Option<usize> {
        let size = match self.storage {
            Storage::F16 => size_of::<u16>(),
            Storage::F32 => size_of::<f32>(),
        };
        self.page()?.checked_mul(size)
    }
}

/// Keys, or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Key,
    Value,
}

/// The part of a page that lies in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub layer: usize,
    pub side: Side,
    pub head: usize,
}

/// Tiles in the order of layers, sides and heads, each with `head_dim` numbers of each position.
#[derive(Debug)]
pub(super) enum Page {
    F16(Vec<u16>),
    F32(Vec<f32>),
}

impl Page {
    /// A page of zeros; `None` when memory does not suffice.
    pub fn new(shape: &Shape) -> Option<Self> {
        let length = shape.page()?;
        Some(match shape.storage {
            Storage::F16 => Self::F16(zeros(length)?),
            Storage::F32 => Self::F32(zeros(length)?),
        })
    }

    pub fn write(&mut self, shape: &Shape, tile: Tile, row: usize, values: &[f32]) {
        let at = tile_at(shape, tile) + row * shape.head_dim;
        match self {
            Self::F16(page) => {
                for (half, value) in page[at..][..values.len()].iter_mut().zip(values) {
                    *half = half::from_f32(*value);
                }
            }
            Self::F32(page) => page[at..][..values.len()].copy_from_slice(values),
        }
    }

    pub fn read<'a>(
        &'a self,
        shape: &Shape,
        tile: Tile,
        rows: Range<usize>,
        out: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        let at = tile_at(shape, tile) + rows.start * shape.head_dim;
        let length = rows.len() * shape.head_dim;
        match self {
            Self::F16(page) => {
                out.resize(length, 0.0);
                for (value, half) in out.iter_mut().zip(&page[at..][..length]) {
                    *value = half::finite_to_f32(*half);
                }
                out
            }
            Self::F32(page) => &page[at..][..length],
        }
    }
}

/// Where a tile begins.
fn tile_at(shape: &Shape, tile: Tile) -> usize {
    let side = match tile.side {
        Side::Key => 0,
        Side::Value => 1,
    };
    ((2 * tile.layer + side) * shape.heads + tile.head) * PAGE * shape.head_dim
}

fn zeros<T: Clone + Default>(length: usize) -> Option<Vec<T>> {
    let mut page = Vec::new();
    page.try_reserve_exact(length).ok()?;
    page.resize(length, T::default());
    Some(page)
}
