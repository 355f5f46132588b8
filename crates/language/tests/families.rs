//! Logits of each family beside those of transformers, natively and in WASM.

mod random;

use edge_net_language::config::Architecture;
use edge_net_language::{Decoder, Loader, Logits, Precision};
use edge_net_tensor::Dtype;
use edge_net_tensor::safetensors::SafetensorsWriter;
use random::{FAMILIES, as_gguf, difference, tensors, tokens, weights};

/// Of logits whose magnitudes are from 2.4 to 4.3.
const TOLERANCE: f32 = 1e-5;

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn logits_are_those_of_transformers() {
    for family in FAMILIES {
        let mut decoder = family.decoder(Precision::Exact);
        let mut cache = decoder.cache(usize::MAX);
        let logits = decoder.forward(&tokens(), &mut cache, Logits::All).unwrap();
        let error = difference(logits, &family.logits());
        assert!(error < TOLERANCE, "{}: {error}", family.name);
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_fast_pass_is_near() {
    for family in FAMILIES {
        let mut decoder = family.decoder(Precision::Fast);
        let mut cache = decoder.cache(usize::MAX);
        let logits = decoder.forward(&tokens(), &mut cache, Logits::All).unwrap();
        let error = difference(logits, &family.logits());
        // Weights are not quantized here, so only the cache is rounded.
        assert!(error < 2e-2, "{}: {error}", family.name);
    }
}

#[test]
fn tensors_of_gguf_give_the_same() {
    for family in FAMILIES {
        let config = family.config();
        let interleaved = config.architecture == Architecture::Llama;
        let fused = config.architecture == Architecture::Phi;
        let (config, tensors) = as_gguf(&config, interleaved, fused);
        let mut decoder = Decoder::new(weights(&config, &tensors), Precision::Exact);
        let mut cache = decoder.cache(usize::MAX);
        let logits = decoder.forward(&tokens(), &mut cache, Logits::All).unwrap();
        let error = difference(logits, &family.logits());
        assert!(error < TOLERANCE, "{}: {error}", family.name);
    }
}

#[test]
fn a_file_is_loaded_from_pieces() {
    for family in FAMILIES {
        let config = family.config();
        let tensors = tensors(&config);
        let mut writer = SafetensorsWriter::new();
        writer.add("unneeded", &[3, 5], Dtype::F32).unwrap();
        for tensor in &tensors {
            writer.add(&tensor.info.name, &tensor.info.dims, Dtype::F32).unwrap();
        }
        let mut file = Vec::new();
        writer
            .write(&mut file, |place, out| match place.checked_sub(1) {
                Some(tensor) => out.write_all(&tensors[tensor].bytes()),
                None => out.write_all(&[0; 60]),
            })
            .unwrap();
        let mut loader = Loader::safetensors(config, file.len() as u64);
        file.chunks(1001).for_each(|piece| loader.push(piece).unwrap());
        let mut decoder = Decoder::new(loader.finish().unwrap().weights, Precision::Exact);
        let mut cache = decoder.cache(usize::MAX);
        let logits = decoder.forward(&tokens(), &mut cache, Logits::All).unwrap();
        assert!(difference(logits, &family.logits()) < TOLERANCE, "{}", family.name);
    }
}
