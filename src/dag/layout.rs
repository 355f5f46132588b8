//! How an artifact is cut: into leaves of 256 KiB, the unit of verification, and segments of 16
//! leaves (4 MiB), the unit of transfer and caching.

use std::ops::Range;

/// Bytes in every leaf except the last (kubo's `--chunker=size-262144`).
pub const LEAF_SIZE: u64 = 262_144;
/// Leaves in every segment except the last.
pub const LEAVES_PER_SEGMENT: u64 = 16;
/// Bytes in every segment except the last.
pub const SEGMENT_SIZE: u64 = LEAF_SIZE * LEAVES_PER_SEGMENT;

/// The leaves and segments of an artifact of a known size in bytes.
///
/// An empty artifact has one empty leaf, as in UnixFS.
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

    /// Size of the artifact in bytes.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.size
    }

    /// Number of leaves, at least one.
    #[must_use]
    pub const fn leaves(self) -> u64 {
        if self.size == 0 { 1 } else { self.size.div_ceil(LEAF_SIZE) }
    }

    /// Number of segments, at least one.
    #[must_use]
    pub const fn segments(self) -> u64 {
        self.leaves().div_ceil(LEAVES_PER_SEGMENT)
    }

    /// The leaves of a segment.
    #[must_use]
    pub fn leaves_of_segment(self, segment: u64) -> Range<u64> {
        let first = segment * LEAVES_PER_SEGMENT;
        first..(first + LEAVES_PER_SEGMENT).min(self.leaves())
    }

    /// The bytes of a range of leaves.
    #[must_use]
    pub fn bytes_of_leaves(self, leaves: &Range<u64>) -> Range<u64> {
        leaves.start * LEAF_SIZE..(leaves.end * LEAF_SIZE).min(self.size)
    }

    /// The leaves that contain some of `bytes`; none for an empty range.
    #[must_use]
    pub const fn leaves_of_bytes(bytes: &Range<u64>) -> Range<u64> {
        if bytes.start >= bytes.end {
            return 0..0;
        }
        bytes.start / LEAF_SIZE..bytes.end.div_ceil(LEAF_SIZE)
    }

    /// The bytes of a segment.
    #[must_use]
    pub fn bytes_of_segment(self, segment: u64) -> Range<u64> {
        self.bytes_of_leaves(&self.leaves_of_segment(segment))
    }

    /// The segments that contain some of `bytes`; none for an empty range.
    #[must_use]
    pub fn segments_of_bytes(self, bytes: &Range<u64>) -> Range<u64> {
        if bytes.is_empty() {
            return 0..0;
        }
        bytes.start / SEGMENT_SIZE..(bytes.end.min(self.size)).div_ceil(SEGMENT_SIZE)
    }

    /// `bytes`, cut at the ends of segments: each segment with its part.
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
