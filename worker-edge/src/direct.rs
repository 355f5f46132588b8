//! Reads of an artifact from the sources, without the cache.

use std::ops::Range;

use edge_net_core::dag::verify::Bytes as _;
use edge_net_driver::host::HostBytes;
use edge_net_driver::session::Reader;
use js_sys::Uint8Array;

use crate::origin::Store;
use crate::part::NoPart;

/// Reads verified bytes in order, in pieces that the caller chooses.
pub struct DirectReader {
    reader: Reader<Store>,
    /// Bytes that were read, and lie after the last piece.
    ahead: Option<HostBytes>,
    /// Offset of `ahead` in the artifact, or else of the bytes that come next.
    at: u64,
}

impl DirectReader {
    /// The bytes of `reader`, the first of which is at `at` of the artifact.
    pub const fn new(reader: Reader<Store>, at: u64) -> Self {
        Self { reader, ahead: None, at }
    }

    /// The bytes `bytes` of segment `segment`. Bytes between the last piece and this one are
    /// skipped.
    ///
    /// # Errors
    /// If no source has a good copy.
    pub async fn read(&mut self, segment: u64, bytes: &Range<u64>) -> Result<HostBytes, NoPart> {
        let mut all = None;
        while self.at < bytes.end {
            let part = match self.ahead.take() {
                Some(part) => part,
                None => self.reader.next().await.ok_or(NoPart::Ended(segment))??,
            };
            let end = self.at + part.len();
            let wanted = self.at.max(bytes.start)..end.min(bytes.end);
            if end > bytes.end {
                self.ahead = Some(part.slice(bytes.end - self.at..part.len()));
            }
            if !wanted.is_empty() {
                let part = part.slice(wanted.start - self.at..wanted.end - self.at);
                if wanted == *bytes {
                    self.at = bytes.end;
                    return Ok(part);
                }
                // A segment of which a leaf was fetched again comes in several parts.
                let all = all.get_or_insert_with(|| {
                    Uint8Array::new_with_length(to_u32(bytes.end - bytes.start))
                });
                all.set(&part.view, to_u32(wanted.start - bytes.start));
            }
            self.at = end.min(bytes.end);
        }
        Ok(all.unwrap_or_default().into())
    }
}

/// A length within a segment, which is below 4 GiB.
fn to_u32(length: u64) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
