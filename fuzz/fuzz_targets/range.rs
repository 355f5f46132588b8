#![cfg_attr(fuzzing, no_main)]
//! The libFuzzer target `range`.

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_net_fuzz::range(data));

#[cfg(not(fuzzing))]
fn main() {}
