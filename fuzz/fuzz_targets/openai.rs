#![cfg_attr(fuzzing, no_main)]
//! The libFuzzer target `openai`.

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_net_fuzz::openai(data));

#[cfg(not(fuzzing))]
fn main() {}
