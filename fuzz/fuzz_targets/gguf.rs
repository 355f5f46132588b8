#![cfg_attr(fuzzing, no_main)]
//! The libFuzzer target `gguf`.

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_net_fuzz::gguf(data));

#[cfg(not(fuzzing))]
fn main() {}
