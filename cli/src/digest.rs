//! Digests of files, each file read once.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use edge_net_core::dag::hasher::{FileDigests, FileHasher};

use crate::files::{FileError, of_file};

/// The size and checksum by which a bucket describes a stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Size in bytes.
    pub size: u64,
    /// CRC32C (RFC 3720, appendix B.4).
    pub crc32c: u32,
}

impl Fingerprint {
    /// Computes the fingerprint of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self { size: bytes.len() as u64, crc32c: crc32c::crc32c(bytes) }
    }
}

/// Computes the digests of a file. Calls `progress` with the number of bytes of each read.
///
/// # Errors
/// [`FileError`] when the file cannot be read.
pub fn file(path: &Path, progress: impl FnMut(u64)) -> Result<FileDigests, FileError> {
    file_and_fingerprint(path, progress).map(|(digests, _)| digests)
}

/// Computes the digests and the fingerprint of a file from the same bytes, so that a file that
/// changes in between cannot have the digests of one state and the fingerprint of another.
///
/// # Errors
/// [`FileError`] when the file cannot be read.
pub fn file_and_fingerprint(
    path: &Path,
    mut progress: impl FnMut(u64),
) -> Result<(FileDigests, Fingerprint), FileError> {
    let mut crc32c = 0;
    let digests = File::open(path).and_then(|file| {
        stream(file, |bytes| {
            crc32c = crc32c::crc32c_append(crc32c, bytes);
            progress(bytes.len() as u64);
        })
    });
    let digests = digests.map_err(of_file(path))?;
    let size = digests.size;
    Ok((digests, Fingerprint { size, crc32c }))
}

/// Computes the digests of a stream. Calls `each` with every piece that was read.
///
/// # Errors
/// The error of the stream.
pub fn stream(mut source: impl Read, mut each: impl FnMut(&[u8])) -> io::Result<FileDigests> {
    let mut hasher = FileHasher::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                each(&buffer[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
