//! Tells the linker how much memory an instance may have at the most.

/// An isolate has 128 MB: an instance that would take most of it fails by itself.
const MEMORY: u32 = 100 << 20;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|target| target == "wasm32") {
        println!("cargo::rustc-link-arg-cdylib=--max-memory={MEMORY}");
    }
}
