#![cfg_attr(fuzzing, no_main)]
//! The libFuzzer target `car`.

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| edge_net_fuzz::car(data));

#[cfg(not(fuzzing))]
fn main() {}
