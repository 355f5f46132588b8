//! Bundles the signed manifests of `manifests/`, so that models are known when the bucket is down.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../manifests").canonicalize()?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut manifests: Vec<PathBuf> = fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter(|path| !path.to_string_lossy().ends_with(".schema.json"))
        .collect();
    manifests.sort();
    let mut code = String::from("&[\n");
    for path in manifests {
        let path = path.to_string_lossy();
        writeln!(code, "    include_str!({path:?}),")?;
    }
    code.push_str("]\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("bundled_manifests.rs"), code)?;
    Ok(())
}
