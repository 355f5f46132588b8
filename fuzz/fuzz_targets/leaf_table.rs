#![cfg_attr(fuzzing, no_main)]
//! The libFuzzer target `leaf_table`.

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_net_fuzz::leaf_table(data));

#[cfg(not(fuzzing))]
fn main() {}
