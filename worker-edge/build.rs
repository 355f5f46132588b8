//! Bundles the signed manifests of `manifests/`, so that their models are served while the bucket
//! is down, and adds the manifest's schema to the OpenAPI document.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::{Map, Value};

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let folder = here.join("../manifests").canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed={}", here.join("openapi.json").display());
    bundle(&folder, &out.join("bundled_manifests.rs"))?;
    describe(
        &here.join("openapi.json"),
        &folder.join("model-manifest-v1.schema.json"),
        &out.join("openapi.json"),
    )
}

/// Writes a Rust expression: a slice of the manifests' texts.
fn bundle(folder: &Path, out: &Path) -> Done {
    let mut manifests: Vec<PathBuf> = fs::read_dir(folder)?
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
    Ok(fs::write(out, code)?)
}

/// Writes the OpenAPI document with the schema of manifests, whose definitions become components.
fn describe(openapi: &Path, schema: &Path, out: &Path) -> Done {
    let schema = fs::read_to_string(schema)?.replace("#/$defs/", "#/components/schemas/");
    let mut schema: Map<String, Value> = serde_json::from_str(&schema)?;
    let mut openapi: Value = serde_json::from_str(&fs::read_to_string(openapi)?)?;
    let schemas = openapi
        .pointer_mut("/components/schemas")
        .and_then(Value::as_object_mut)
        .ok_or("no schemas")?;
    if let Some(Value::Object(definitions)) = schema.remove("$defs") {
        schemas.extend(definitions);
    }
    // With these the schema would be a resource of its own, whose references do not leave it.
    schema.remove("$schema");
    schema.remove("$id");
    schemas.insert("ModelManifest".into(), schema.into());
    Ok(fs::write(out, serde_json::to_string(&openapi)?)?)
}
