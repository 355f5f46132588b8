//! Values of blocks, against those of the PyPI package gguf.

use edge_net_tensor::{Dtype, dequantize};

/// Lines of type, bytes and bits of values. Written by `blocks/vectors.py`.
const VECTORS: &str = include_str!("blocks/vectors.txt");

fn dtype(name: &str) -> Dtype {
    match name {
        "F32" => Dtype::F32,
        "F16" => Dtype::F16,
        "BF16" => Dtype::Bf16,
        "Q4_0" => Dtype::Q4_0,
        "Q4_1" => Dtype::Q4_1,
        "Q5_0" => Dtype::Q5_0,
        "Q5_1" => Dtype::Q5_1,
        "Q8_0" => Dtype::Q8_0,
        "Q2_K" => Dtype::Q2K,
        "Q3_K" => Dtype::Q3K,
        "Q4_K" => Dtype::Q4K,
        "Q5_K" => Dtype::Q5K,
        "Q6_K" => Dtype::Q6K,
        _ => panic!("no type {name}"),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn values_have_the_bits_of_the_reference() {
    let mut types = 0;
    for line in VECTORS.lines() {
        let [name, blocks, values] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let expected: Vec<u32> =
            bytes(values).as_chunks().0.iter().map(|word| u32::from_be_bytes(*word)).collect();
        let mut out = vec![0.0; expected.len()];
        dequantize(dtype(name), &bytes(blocks), &mut out).unwrap();
        let bits: Vec<u32> = out.iter().map(|value: &f32| value.to_bits()).collect();
        assert_eq!(bits, expected, "{name}");
        types += 1;
    }
    assert_eq!(types, 13);
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn another_number_of_bytes_is_an_error() {
    let error = dequantize(Dtype::Q4_0, &[0; 18], &mut [0.0; 31]).unwrap_err();
    assert_eq!(error.to_string(), "31 values of Q4_0 do not take 18 bytes");
    assert!(dequantize(Dtype::Q4K, &[0; 143], &mut [0.0; 256]).is_err());
    assert!(dequantize(Dtype::F32, &[0; 9], &mut [0.0; 2]).is_err());
}
