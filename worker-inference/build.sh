#!/usr/bin/env bash
# Builds worker-inference/build/: inference.wasm, and instance.js, which makes instances of it.
set -euo pipefail
cd "$(dirname "$0")/.."
build=worker-inference/build
wasm=$build/edge_net_worker_inference_bg.wasm
glue=$build/edge_net_worker_inference.js

module=$(dev/cargo-wasm.sh edge-net-worker-inference inference -Ctarget-feature=+simd128)
mkdir -p "$build"
.tools/bin/wasm-bindgen "$module" --target no-modules --no-modules-global bound \
  --omit-default-module-path --out-dir "$build"
# Functions in the order of their names compress better. The names are removed after that. With
# -O1 the module is 5 % smaller gzipped than with -Oz, and 8 minutes of CPU time are saved.
node_modules/.bin/wasm-opt -O1 --reorder-functions-by-name --strip-debug \
  --strip-producers --strip-target-features \
  --enable-bulk-memory --enable-nontrapping-float-to-int --enable-sign-ext \
  --enable-mutable-globals --enable-reference-types --enable-multivalue --enable-simd \
  "$wasm" --output "$build/inference.wasm"
rm "$wasm"

# The glue of wasm-bindgen has one instance per evaluation. Here each call evaluates it. `fetch` in
# the glue is the argument: an instance has no other access to the network.
{
  echo 'export default function instantiate(module, fetch) {'
  cat "$glue"
  echo 'bound.initSync({ module });'
  echo 'return bound;'
  echo '}'
} | node_modules/.bin/esbuild --minify --format=esm --log-level=warning \
  --log-override:duplicate-object-key=silent > "$build/instance.js"
rm "$glue"

echo "inference worker: WASM $(wc -c < "$build/inference.wasm") bytes," \
  "$(gzip -9 --stdout "$build/inference.wasm" | wc -c) gzipped"
