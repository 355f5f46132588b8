#![cfg_attr(fuzzing, no_main)]
//! The libFuzzer target `filter`.

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_net_fuzz::filter(data));

#[cfg(not(fuzzing))]
fn main() {}
