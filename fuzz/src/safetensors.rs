//! The streaming reader and the writer of safetensors files, and the index of several.

use edge_net_tensor::container::Value;
use edge_net_tensor::safetensors::{Head, Index, SafetensorsWriter};

use crate::events::{Seen, read};

/// Input: a byte, which is the length of the pieces in which the file arrives, then the file. All
/// of it, as text, is read as an index too.
///
/// - The events of a file do not depend on the pieces in which it arrives.
/// - The tensors lie within the file, and their bytes are those of the file. Each byte after the
///   head belongs to one.
/// - What is read is written with the length that was announced, read again as the same, and
///   written again as the same bytes.
/// - The files of an index are names without folders.
///
/// # Panics
/// When a property does not hold.
pub fn safetensors(data: &[u8]) {
    if let Some(index) = std::str::from_utf8(data).ok().and_then(|text| Index::parse(text).ok()) {
        assert!(index.files().iter().all(|file| !file.contains(['/', '\\'])));
        assert!(index.iter().all(|(tensor, file)| index.file_of(tensor) == Some(file)));
    }
    let [piece, file @ ..] = data else { return };
    let seen = read::<Head>(file, *piece);
    if seen.error.is_some() {
        return;
    }
    let bytes: usize = seen.data.iter().map(Vec::len).sum();
    let head = u64::from_le_bytes(file[..8].try_into().expect("the file has a head"));
    assert_eq!(bytes as u64 + 8 + head, file.len() as u64);
    let Some(once) = written(&seen) else { return };
    let again = read::<Head>(&once, *piece);
    assert_eq!(again.error, None);
    assert_eq!(again.contents.metadata, seen.contents.metadata);
    for (tensor, data) in seen.contents.tensors.iter().zip(&seen.data) {
        let same = |other: &&_| again.contents.tensor(&tensor.name) == Some(*other);
        let place = again.contents.tensors.iter().position(|other| same(&other));
        assert_eq!(place.map(|place| &again.data[place]), Some(data));
    }
    assert_eq!(written(&again), Some(once));
}

/// The same content, written; `None` where tensors are no weights.
fn written(seen: &Seen) -> Option<Vec<u8>> {
    let mut writer = SafetensorsWriter::new();
    for (key, value) in seen.contents.metadata.iter() {
        let Value::String(text) = value else { panic!("a value is no text") };
        writer.set(key, text);
    }
    for tensor in &seen.contents.tensors {
        writer.add(&tensor.name, &tensor.dims, tensor.dtype().ok()?).ok()?;
    }
    let mut out = Vec::new();
    let source = |place: usize, out: &mut dyn std::io::Write| out.write_all(&seen.data[place]);
    writer.write(&mut out, source).expect("memory");
    assert_eq!(out.len() as u64, writer.size());
    Some(out)
}
