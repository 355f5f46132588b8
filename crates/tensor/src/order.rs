//! The order of elements in blocks of 32, of activations and of packed weights.
//!
//! A word holds four elements, two of the first 16 and two of the second: where 16 elements share a
//! scale, the sums of both halves lie side by side, as an instruction multiplies them.

/// Elements of a block.
pub(crate) const BLOCK: usize = 32;

/// The elements of word `word` of a block.
#[inline]
pub(crate) const fn elements(word: usize) -> [usize; 4] {
    [2 * word, 2 * word + 1, BLOCK / 2 + 2 * word, BLOCK / 2 + 2 * word + 1]
}

/// Rows of a strip: outputs that are computed together, one in each lane of 32 bits of a vector.
pub(crate) const LANES: usize = if cfg!(target_arch = "x86_64") { 8 } else { 4 };
