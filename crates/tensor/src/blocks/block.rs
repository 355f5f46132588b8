//! A block of quantized weights, taken apart.

/// Elements of the longest block.
const LONGEST: usize = 256;

/// A block taken apart: the value of element `i` in part `p` is
/// `scale × scales[p] × (codes[i] - zero) - minimum × minima[p]`.
///
/// Blocks of 32 elements are one part, whose `scales` and `minima` are 1; there the minimum is
/// added.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Unsigned integers of up to 8 bits.
    pub codes: [u8; LONGEST],
    /// A binary16.
    pub scale: u16,
    /// A binary16. 0 in types without minima.
    pub minimum: u16,
    /// Scales of 16 or 32 elements each.
    pub scales: [i8; 16],
    /// Minima of 16 or 32 elements each.
    pub minima: [u8; 16],
}

impl Block {
    pub(crate) const EMPTY: Self =
        Self { codes: [0; LONGEST], scale: 0, minimum: 0, scales: [1; 16], minima: [0; 16] };
}
