//! Fuzz targets: one function for each parser or verifier that reads untrusted bytes.
//!
//! Each function takes arbitrary bytes and asserts properties of the code under test, so a finding
//! is a panic. `fuzz_targets/` runs the functions under libFuzzer, `tests/bounded.rs` runs them for
//! a few seconds on the seeds and on deterministic mutations of these.
//!
//! Two kinds of input exist. Text targets read lines, so that their seeds are readable. Targets
//! whose code lies behind a digest (`leaf_table`, `walk`, `car`) decode a case with [`arbitrary`]
//! and compute the digests of it, because no mutation of bytes finds a preimage.

mod answer;
mod artifact;
mod car;
mod events;
mod filter;
mod gateway;
mod gguf;
mod leaf_table;
mod link;
mod manifest;
mod model_path;
mod onnx;
mod openai;
mod range;
mod safetensors;
mod walk;
mod yaml;

pub use answer::answer;
pub use car::car;
pub use filter::filter;
pub use gateway::gateway;
pub use gguf::gguf;
pub use leaf_table::leaf_table;
pub use link::link;
pub use manifest::manifest;
pub use model_path::model_path;
pub use onnx::onnx;
pub use openai::openai;
pub use range::range;
pub use safetensors::safetensors;
pub use walk::walk;
pub use yaml::yaml;
