#![cfg_attr(fuzzing, no_main)]
//! The libFuzzer target `link`.

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_net_fuzz::link(data));

#[cfg(not(fuzzing))]
fn main() {}
