//! What readers of files of tensors report.

// What the tests of the readers note too.
#[path = "../../crates/tensor/tests/events/mod.rs"]
mod seen;

use edge_net_tensor::container::{Head, TensorInfo};

pub(crate) use seen::Seen;

/// Reads a file at once and in pieces, and asserts what is true of all formats.
pub(crate) fn read<H: Head + Default>(file: &[u8], piece: u8) -> Seen {
    let size = file.len() as u64;
    let at_once = seen::read::<H>(size, [file].into_iter());
    let in_pieces = seen::read::<H>(size, file.chunks(usize::from(piece).max(1)));
    // NaN in metadata is not equal to itself.
    let as_text = |seen: &Seen| format!("{seen:?}");
    assert_eq!(as_text(&in_pieces), as_text(&at_once));
    for (tensor, data) in at_once.contents.tensors.iter().zip(&at_once.data) {
        assert!(tensor.end() <= size, "a tensor past the end");
        if at_once.error.is_none() {
            assert_eq!(data, bytes_of(tensor, file));
        }
    }
    at_once
}

fn bytes_of<'a>(tensor: &TensorInfo, file: &'a [u8]) -> &'a [u8] {
    let at = |position: u64| usize::try_from(position).expect("the file is in memory");
    &file[at(tensor.offset)..at(tensor.end())]
}
