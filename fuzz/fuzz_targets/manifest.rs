#![cfg_attr(fuzzing, no_main)]
//! The libFuzzer target `manifest`.

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_net_fuzz::manifest(data));

#[cfg(not(fuzzing))]
fn main() {}
