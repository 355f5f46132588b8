//! CIDs of artifacts and their blocks: version 1, SHA-256, written in base32.

use base32ct::{Base32Unpadded, Encoding as _};
use cid::Cid;
use cid::multihash::Multihash;

use crate::dag::digest::Digest;

/// Multicodec of raw bytes: a leaf.
pub const RAW: u64 = 0x55;
/// Multicodec of dag-pb: an inner node.
pub const DAG_PB: u64 = 0x70;
/// Multihash code of SHA-256.
pub const SHA2_256: u64 = 0x12;

impl Digest {
    /// The digest in a CID; `None` for other hashes than SHA-256.
    #[must_use]
    pub fn of_cid(cid: &Cid) -> Option<Self> {
        if cid.hash().code() != SHA2_256 {
            return None;
        }
        Some(Self(cid.hash().digest().try_into().ok()?))
    }

    /// The CIDv1 of a block with this digest and multicodec.
    ///
    /// # Panics
    /// Never: 32 bytes fit a multihash of 64.
    #[must_use]
    pub fn to_cid(self, codec: u64) -> Cid {
        let hash = Multihash::wrap(SHA2_256, &self.0).expect("32 bytes fit");
        Cid::new_v1(codec, hash)
    }
}

/// A CIDv1 as text: `b` and base32, as `Display` writes it. `Display` would add the tables of all
/// other bases, a tenth of the service worker.
#[must_use]
pub fn cid_text(cid: &Cid) -> String {
    format!("b{}", Base32Unpadded::encode_string(&cid.to_bytes()))
}

/// Reads a CIDv1 in base32; `None` for anything else.
#[must_use]
pub fn parse_cid(text: &str) -> Option<Cid> {
    Cid::try_from(Base32Unpadded::decode_vec(text.strip_prefix('b')?).ok()?).ok()
}
