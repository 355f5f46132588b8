//! How an artifact is cut: leaves of 256 KiB, the unit of verification, and segments of 16 leaves
//! (4 MiB), the unit of transfer and of cache.

use std::ops::Range;

/// Bytes in a leaf, but for the last one (kubo's `--chunker=size-262144`).
pub const LEAF_SIZE: u64 = 262_144;
/// Leaves in a segment, but for the last one.
pub const LEAVES_PER_SEGMENT: u64 = 16;
/// Bytes in a segment, but for the last one.
pub const SEGMENT_SIZE: u64 = LEAF_SIZE * LEAVES_PER_SEGMENT;

/// The leaves and segments of an artifact of a known size in bytes.
///
/// An empty artifact has one leaf of no bytes, as in UnixFS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    size: u64,
}

impl Layout {
    /// The layout of an artifact of `size` bytes.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self { size }
    }

    /// Bytes in the artifact.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.size
    }

    /// How many leaves there are, at least one.
    #[must_use]
    pub const fn leaves(self) -> u64 {
        if self.size == 0 { 1 } else { self.size.div_ceil(LEAF_SIZE) }
    }

    /// How many segments there are, at least one.
    #[must_use]
    pub const fn segments(self) -> u64 {
        self.leaves().div_ceil(LEAVES_PER_SEGMENT)
    }

    /// The leaves of segment `segment`.
    #[must_use]
    pub fn leaves_of_segment(self, segment: u64) -> Range<u64> {
        let first = segment * LEAVES_PER_SEGMENT;
        first..(first + LEAVES_PER_SEGMENT).min(self.leaves())
    }

    /// The bytes of the leaves `leaves`.
    #[must_use]
    pub fn bytes_of_leaves(self, leaves: &Range<u64>) -> Range<u64> {
        leaves.start * LEAF_SIZE..(leaves.end * LEAF_SIZE).min(self.size)
    }

    /// The leaves that hold the bytes `bytes`; none for an empty range.
    #[must_use]
    pub const fn leaves_of_bytes(bytes: &Range<u64>) -> Range<u64> {
        if bytes.start >= bytes.end {
            return 0..0;
        }
        bytes.start / LEAF_SIZE..bytes.end.div_ceil(LEAF_SIZE)
    }

    /// The bytes of segment `segment`.
    #[must_use]
    pub fn bytes_of_segment(self, segment: u64) -> Range<u64> {
        self.bytes_of_leaves(&self.leaves_of_segment(segment))
    }

    /// The segments that hold the bytes `bytes`; none for an empty range.
    #[must_use]
    pub fn segments_of_bytes(self, bytes: &Range<u64>) -> Range<u64> {
        if bytes.is_empty() {
            return 0..0;
        }
        bytes.start / SEGMENT_SIZE..(bytes.end.min(self.size)).div_ceil(SEGMENT_SIZE)
    }

    /// The bytes `bytes`, cut where segments end: each segment that holds some of them, with these.
    pub fn parts_of_bytes(
        self,
        bytes: &Range<u64>,
    ) -> impl Iterator<Item = (u64, Range<u64>)> + use<> {
        let Range { start, end } = *bytes;
        self.segments_of_bytes(bytes).map(move |segment| {
            let whole = self.bytes_of_segment(segment);
            (segment, whole.start.max(start)..whole.end.min(end))
        })
    }
}
