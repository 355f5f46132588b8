#!/usr/bin/env bash
# Builds worker-edge/build/: the module index_bg.wasm, and index.js, which starts it.
set -euo pipefail
cd "$(dirname "$0")/.."
build=worker-edge/build
glue=$build/glue

module=$(dev/cargo-wasm.sh edge-net-worker-edge wasm)
mkdir -p "$glue"
# The two last options let rust.js start the module anew after a panic.
.tools/bin/wasm-bindgen "$module" --target module --out-dir "$glue" --out-name index \
  --experimental-reset-state-function --force-enable-abort-handler
# --debuginfo keeps the names of functions, for stack traces.
node_modules/.bin/wasm-opt -O --debuginfo --enable-mutable-globals --enable-sign-ext \
  --enable-nontrapping-float-to-int --enable-bulk-memory --enable-multivalue \
  --enable-reference-types --enable-exception-handling \
  "$glue/index_bg.wasm" --output "$build/index_bg.wasm"
# Wrangler gives a WASM module to `import`; wasm-bindgen writes the newer `import source`.
sed --in-place 's/^import source /import /' "$glue/index.js"
node_modules/.bin/esbuild worker-edge/rust.js --bundle --minify --format=esm \
  --external:./index_bg.wasm '--external:cloudflare:*' --log-level=warning \
  --outfile="$build/index.js"
rm -r "$glue"

echo "edge worker: WASM $(wc -c < "$build/index_bg.wasm") bytes," \
  "$(gzip -9 --stdout "$build/index_bg.wasm" | wc -c) gzipped"
