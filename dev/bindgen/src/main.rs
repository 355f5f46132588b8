//! Makes the JavaScript bindings of a WASM module: the part of the `wasm-bindgen` program that
//! the build scripts use. Options have the names and the effect they have there.

use std::env::Args;

use anyhow::{Context as _, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

const USAGE: &str = "usage: bindgen INPUT.wasm --out-dir DIR --target web|module|no-modules \
    [--out-name NAME] [--no-modules-global NAME] [--omit-default-module-path] \
    [--remove-name-section] [--experimental-reset-state-function] [--force-enable-abort-handler]";

fn main() -> Result<()> {
    let mut arguments = std::env::args();
    arguments.next();
    generate(arguments).context(USAGE)
}

/// Reads the options and writes the bindings.
fn generate(mut arguments: Args) -> Result<()> {
    let mut bindgen = Bindgen::new();
    bindgen.omit_default_module_path(false); // as the program does, unlike the library
    let mut out_dir = None;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--out-dir" => out_dir = Some(value()?),
            "--out-name" => drop(bindgen.out_name(&value()?)),
            "--target" => select_target(&mut bindgen, &value()?)?,
            "--no-modules-global" => drop(bindgen.no_modules_global(&value()?)?),
            "--omit-default-module-path" => drop(bindgen.omit_default_module_path(true)),
            "--remove-name-section" => drop(bindgen.remove_name_section(true)),
            "--experimental-reset-state-function" => drop(bindgen.reset_state_function(true)),
            "--force-enable-abort-handler" => drop(bindgen.force_enable_abort_handler(true)),
            option if option.starts_with('-') => bail!("unknown option {option}"),
            input => drop(bindgen.input_path(input)),
        }
    }
    bindgen.generate(out_dir.context("--out-dir is missing")?)
}

/// Sets where the bindings will run.
fn select_target(bindgen: &mut Bindgen, target: &str) -> Result<()> {
    match target {
        "web" => bindgen.web(true)?,
        "module" => bindgen.module(true)?,
        "no-modules" => bindgen.no_modules(true)?,
        _ => bail!("unknown target {target}"),
    };
    Ok(())
}
