#![cfg_attr(fuzzing, no_main)]
//! The libFuzzer target `model_path`.

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_net_fuzz::model_path(data));

#[cfg(not(fuzzing))]
fn main() {}
