//! The language model that set-up installs.

mod events;

use std::collections::BTreeMap;

use edge_net_tensor::Dtype;
use edge_net_tensor::container::Contents;
use edge_net_tensor::gguf::{GgufWriter, Head, Reader};
use sha2::{Digest as _, Sha256};

/// Bytes of a leaf, as downloads pass them on.
const PIECE: usize = 256 << 10;

fn file() -> Vec<u8> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../.tools/models/smollm2-135m-instruct-q4-1/SmolLM2-135M-Instruct.Q4_1.gguf"
    );
    std::fs::read(path).expect("dev/setup.sh has fetched the language model")
}

/// Hexadecimal digits of a SHA-256.
fn digest(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}

#[test]
fn it_is_read_in_pieces_and_written_as_it_was() {
    let file = file();
    let seen = events::read::<Head>(file.len() as u64, file.chunks(PIECE));
    assert_eq!(seen.error, None);
    let Contents { metadata, tensors } = &seen.contents;
    // What the Python package gguf 0.19.0 tells of the file.
    assert_eq!((metadata.len(), tensors.len()), (33, 272));
    assert_eq!(metadata.str("general.architecture"), Ok("llama"));
    assert_eq!(metadata.u32("llama.block_count"), Ok(30));
    assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap().len(), 49_152);
    assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap().get(1), Some("<|im_start|>"));
    assert_eq!(metadata.i32s("tokenizer.ggml.token_type").unwrap()[..2], [3, 3]);
    let mut kinds = BTreeMap::new();
    for tensor in tensors {
        *kinds.entry(tensor.dtype().unwrap().name()).or_insert(0) += 1;
    }
    assert_eq!(kinds, BTreeMap::from([("F32", 61), ("Q4_1", 210), ("Q8_0", 1)]));
    let key = tensors.iter().position(|tensor| tensor.name == "blk.0.attn_k.weight").unwrap();
    assert_eq!((&*tensors[key].dims, tensors[key].offset), (&[192, 576][..], 33_530_176));
    assert_eq!(tensors[key].dtype(), Ok(Dtype::Q4_1));
    assert_eq!(digest(&seen.data[key]), KEY_SHA256);

    let mut writer = GgufWriter::new(metadata.clone());
    for tensor in tensors {
        writer.add(&tensor.name, &tensor.dims, tensor.dtype().unwrap()).unwrap();
    }
    let mut copy = Vec::with_capacity(file.len());
    writer.write(&mut copy, |place, out| out.write_all(&seen.data[place])).unwrap();
    assert!(copy == file, "the copy differs");
}

/// Of the bytes of `blk.0.attn_k.weight`, from `GGUFReader`.
const KEY_SHA256: &str = "89e18b9f9168d5f457a58850f93fdf0f8a681209aa7bf4c205c13b3d110db24f";

#[test]
fn bytes_are_passed_on_without_a_copy() {
    let file = file();
    let mut reader = Reader::new(file.len() as u64);
    let mut contents = Contents::default();
    for mut piece in file.chunks(PIECE) {
        let all = piece.as_ptr_range();
        while let Some(event) = reader.next(&mut piece).unwrap() {
            if let Some((_, bytes)) = contents.take(event) {
                let part = bytes.as_ptr_range();
                assert!(all.start <= part.start && part.end <= all.end);
            }
        }
    }
    reader.finish().unwrap();
}
