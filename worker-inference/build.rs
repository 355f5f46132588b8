//! Sets the maximum memory of an instance.

/// In bytes. An isolate has 128 MB: an instance that needs most of them fails alone.
const MAX_MEMORY: u32 = 100 << 20;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|target| target == "wasm32") {
        println!("cargo::rustc-link-arg-cdylib=--max-memory={MAX_MEMORY}");
    }
}
