//! What kernels ask of a processor.

use crate::{order::LANES, word::Word};

/// Vectors of [`LANES`] lanes of 32 bits, and operations on them.
///
/// All implementations compute the same bits: integers are exact, and a product and a sum of
/// floats are rounded one after the other.
pub(crate) trait Machine: Copy {
    /// Four unsigned bytes in a lane.
    type Bytes: Copy;
    /// Two signed integers of 16 bits in a lane.
    type Pairs: Copy;
    /// A signed integer of 32 bits in a lane.
    type Ints: Copy;
    /// A single float in a lane.
    type Floats: Copy;

    fn load(self, bytes: &[u8; 4 * LANES]) -> Self::Bytes;
    /// `WIDTH` bits of each byte from bit `AT` on, moved to bit `TO`.
    fn field<const AT: u32, const WIDTH: u32, const TO: u32>(self, of: Self::Bytes) -> Self::Bytes;
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;

    /// Each byte once for both integers of its lane.
    fn twice(self, bytes: [u8; LANES]) -> Self::Pairs;
    /// Two unsigned bytes for each lane.
    fn unsigned(self, bytes: &[u8; 2 * LANES]) -> Self::Pairs;
    /// Two signed bytes for each lane.
    fn signed(self, bytes: &[u8; 2 * LANES]) -> Self::Pairs;
    /// The same two integers in all lanes, the first in the low half.
    fn splat_pair(self, pair: i32) -> Self::Pairs;
    /// The sums of both products in each lane.
    fn dot(self, a: Self::Pairs, b: Self::Pairs) -> Self::Ints;

    /// Σ codes × activations. The sum of `CHUNK` vectors of products has to fit 16 bits:
    /// 2 × 127 × the greatest code × `CHUNK` is less than 2^15.
    fn total<const CHUNK: usize>(self, codes: &[Self::Bytes; 8], words: &[Word; 8]) -> Self::Ints;
    /// Σ codes × activations × scale: the first scale of a lane is that of bytes 0 and 1, the
    /// second that of bytes 2 and 3. `CHUNK` as in [`Machine::total`].
    fn scaled<const CHUNK: usize>(
        self,
        codes: &[Self::Bytes; 8],
        words: &[Word; 8],
        scales: Self::Pairs,
    ) -> Self::Ints;
    /// Σ codes × activations of codes of 8 bits.
    fn total_of_bytes(self, codes: &[Self::Bytes; 8], words: &[Word; 8]) -> Self::Ints;

    fn zero(self) -> Self::Ints;
    fn add_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    fn sub_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    fn shift_left<const BITS: u32>(self, a: Self::Ints) -> Self::Ints;
    fn to_floats(self, a: Self::Ints) -> Self::Floats;

    /// Finite numbers in binary16.
    fn halves(self, bytes: &[u8; 2 * LANES]) -> Self::Floats;
    /// The upper halves of single floats.
    fn upper_halves(self, bytes: &[u8; 2 * LANES]) -> Self::Floats;
    fn singles(self, bytes: &[u8; 4 * LANES]) -> Self::Floats;
    fn splat(self, value: f32) -> Self::Floats;
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn array(self, a: Self::Floats) -> [f32; LANES];
}
