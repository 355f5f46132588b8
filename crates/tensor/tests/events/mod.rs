//! What a reader reports, independent of the pieces. The fuzz targets use it too.

use edge_net_tensor::container::{Contents, Error, Head, Reader};

/// Everything that a reader reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Metadata and tensors.
    pub contents: Contents,
    /// The bytes of each tensor.
    pub data: Vec<Vec<u8>>,
    /// The order in which tensors began.
    pub order: Vec<usize>,
    /// The error at the end, if any.
    pub error: Option<Error>,
}

/// Reads pieces of a file of `size` bytes.
pub fn read<'a, H: Head + Default>(size: u64, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let mut reader = Reader::<H>::new(size);
    let mut seen = Seen::default();
    // What is known at the end of a file is reported with an empty piece.
    for mut piece in pieces.chain([&[][..]]) {
        if let Err(error) = take(&mut reader, &mut piece, &mut seen) {
            return Seen { error: Some(error), ..seen };
        }
        assert!(piece.is_empty(), "bytes are left");
    }
    Seen { error: reader.finish().err(), ..seen }
}

fn take<H: Head>(reader: &mut Reader<H>, piece: &mut &[u8], seen: &mut Seen) -> Result<(), Error> {
    while let Some(event) = reader.next(piece)? {
        let Some((tensor, bytes)) = seen.contents.take(event) else { continue };
        assert!(!bytes.is_empty());
        if seen.order.last() != Some(&tensor) {
            assert!(!seen.order.contains(&tensor), "a tensor comes in two parts");
            seen.order.push(tensor);
        }
        seen.data.resize(seen.contents.tensors.len(), Vec::new());
        seen.data[tensor].extend_from_slice(bytes);
    }
    seen.data.resize(seen.contents.tensors.len(), Vec::new());
    Ok(())
}
