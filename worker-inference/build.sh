#!/usr/bin/env bash
# Builds worker-inference/build/: the WASM module, and a function that makes instances of it.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
build=worker-inference/build

# As in worker-sw/build.sh: panics have short names of source files.
cargo fetch --quiet --locked --target wasm32-unknown-unknown
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
remap=$(for index in "$registry"/*/; do printf '"--remap-path-prefix=%s=", ' "$index"; done)
flags="${remap}\"--remap-path-prefix=$PWD/=\", \"-Ctarget-feature=+simd128\""
cargo build --quiet --package edge-net-worker-inference --profile inference \
  --target wasm32-unknown-unknown --config "target.wasm32-unknown-unknown.rustflags = [$flags]"
mkdir -p "$build"
.tools/bin/wasm-bindgen --target no-modules --no-modules-global bound --no-typescript \
  --omit-default-module-path --remove-name-section --out-dir "$build" \
  "$target/wasm32-unknown-unknown/inference/edge_net_worker_inference.wasm"
wasm=$build/edge_net_worker_inference_bg.wasm
node_modules/.bin/wasm-opt -Oz -Oz --strip-producers --strip-target-features \
  --enable-bulk-memory --enable-nontrapping-float-to-int --enable-sign-ext \
  --enable-mutable-globals --enable-reference-types --enable-multivalue --enable-simd \
  "$wasm" -o "$build/inference.wasm"
rm "$wasm"

# Each evaluation of wasm-bindgen's glue makes one instance. Its `fetch` is the parameter, so that
# an instance reaches nothing else.
{
  echo 'export default function instantiate(module, fetch) {'
  cat "$build/edge_net_worker_inference.js"
  echo 'bound.initSync({ module });'
  echo 'return bound;'
  echo '}'
} | node_modules/.bin/esbuild --minify --format=esm --log-level=warning \
  --log-override:duplicate-object-key=silent > "$build/instance.js"
rm "$build/edge_net_worker_inference.js"

gzipped=$(gzip -9 --stdout "$build/inference.wasm" | wc -c)
echo "inference: WASM $(wc -c < "$build/inference.wasm") bytes, $gzipped gzipped"
