//! The streaming reader and the writer of GGUF files.

use edge_net_tensor::gguf::{GgufWriter, Head};

use crate::events::{Seen, read};

/// Input: a byte, which is the length of the pieces in which the file arrives, then the file.
///
/// - The events of a file do not depend on the pieces in which it arrives.
/// - The tensors lie within the file, and their bytes are those of the file.
/// - What is read is written with the length that was announced, read again as the same, and
///   written again as the same bytes.
///
/// # Panics
/// When a property does not hold.
pub fn gguf(data: &[u8]) {
    let [piece, file @ ..] = data else { return };
    let seen = read::<Head>(file, *piece);
    if seen.error.is_some() {
        return;
    }
    let once = written(&seen);
    let mut again = read::<Head>(&once, *piece);
    assert_eq!(again.error, None);
    assert_eq!(again.data, seen.data);
    assert_eq!(written(&again), once);
    // Its default is written as nothing.
    let mut metadata = seen.contents.metadata;
    metadata.remove("general.alignment");
    again.contents.metadata.remove("general.alignment");
    assert_eq!(format!("{metadata:?}"), format!("{:?}", again.contents.metadata));
}

fn written(seen: &Seen) -> Vec<u8> {
    let mut writer = GgufWriter::new(seen.contents.metadata.clone());
    for tensor in &seen.contents.tensors {
        let dtype = tensor.dtype().expect("others are refused");
        writer.add(&tensor.name, &tensor.dims, dtype).expect("it was read");
    }
    let mut out = Vec::new();
    let source = |place: usize, out: &mut dyn std::io::Write| out.write_all(&seen.data[place]);
    writer.write(&mut out, source).expect("memory");
    assert_eq!(out.len() as u64, writer.size());
    out
}
