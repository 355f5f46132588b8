//! The `wasm-bindgen-test-runner` program, which cargo starts to run the tests of WASM crates.

fn main() -> anyhow::Result<()> {
    wasm_bindgen_cli::wasm_bindgen_test_runner::run_cli_with_args(std::env::args_os())
}
