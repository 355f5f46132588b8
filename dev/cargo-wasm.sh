#!/usr/bin/env bash
# Compiles a crate to WebAssembly and prints the path of the module.
# usage: dev/cargo-wasm.sh PACKAGE PROFILE [RUSTFLAG...]
set -euo pipefail
cd "$(dirname "$0")/.."
package=$1 profile=$2
shift 2

# Panic messages name source files. Paths are shortened, so that a module does not depend on where
# it was built. Flags are the same for all crates, so that they share compiled dependencies.
cargo fetch --quiet --locked --target wasm32-unknown-unknown
flags=()
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
  flags+=("--remap-path-prefix=$registry=")
done
flags+=("--remap-path-prefix=$PWD/=" "$@")
list=$(printf '"%s", ' "${flags[@]}")

cargo build --quiet --locked --package "$package" --profile "$profile" \
  --target wasm32-unknown-unknown --config "target.wasm32-unknown-unknown.rustflags = [$list]"
target=${CARGO_TARGET_DIR:-target}
echo "$target/wasm32-unknown-unknown/$profile/${package//-/_}.wasm"
