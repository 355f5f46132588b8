//! The language model that set-up installs.

use std::collections::BTreeMap;
use std::io::Read as _;

use edge_net_language::config::{Architecture, Config, Pairs};
use edge_net_tensor::container::Contents;
use edge_net_tensor::gguf::Reader;

/// The head of the file: it is read until the last tensor is listed.
fn contents() -> Contents {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../.tools/models/smollm2-135m-instruct-q4-1/SmolLM2-135M-Instruct.Q4_1.gguf"
    );
    let mut file = std::fs::File::open(path).expect("dev/setup.sh has fetched the language model");
    let mut reader = Reader::new(file.metadata().unwrap().len());
    let mut contents = Contents::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut buffer).unwrap();
        let mut piece = &buffer[..length];
        while let Some(event) = reader.next(&mut piece).unwrap() {
            if contents.take(event).is_some() {
                return contents;
            }
        }
    }
}

#[test]
fn its_file_has_exactly_the_tensors_that_its_description_needs() {
    let contents = contents();
    let config = Config::from_gguf(&contents).unwrap();
    assert_eq!((config.architecture, config.rope.pairs), (Architecture::Llama, Pairs::Interleaved));
    assert_eq!((config.layers, config.width, config.hidden), (30, 576, 1536));
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (9, 3, 64));
    assert_eq!((config.vocabulary, config.context), (49_152, 8192));
    assert!(config.tied_head);
    let tensors = contents.tensors.into_iter();
    let found: BTreeMap<_, _> = tensors.map(|tensor| (tensor.name, tensor.dims)).collect();
    let needed = config.tensors().into_iter();
    let needed: BTreeMap<_, _> = needed.map(|tensor| (tensor.name, tensor.dims)).collect();
    assert_eq!(found, needed);
}
