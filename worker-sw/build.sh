#!/usr/bin/env bash
# Builds web/dist/edge-net-sw.js: the service worker with its WASM inside, as one classic script.
set -euo pipefail
cd "$(dirname "$0")/.."
build=worker-sw/build
wasm=$build/edge_net_worker_sw_bg.wasm

module=$(dev/cargo-wasm.sh edge-net-worker-sw wasm)
mkdir -p "$build" web/dist
.tools/bin/wasm-bindgen "$module" --target web --out-dir "$build"
node_modules/.bin/wasm-opt --merge-similar-functions -Oz --flatten --rereloop -Oz \
  --flatten --rereloop -Oz -Oz --converge --reorder-functions-by-name \
  --strip-producers --strip-target-features --enable-bulk-memory \
  --enable-nontrapping-float-to-int --enable-sign-ext --enable-mutable-globals \
  --enable-reference-types --enable-multivalue "$wasm" --output "$wasm.opt"
mv "$wasm.opt" "$wasm"
node_modules/.bin/esbuild worker-sw/js/edge-net-sw.js --bundle --minify --format=iife \
  --target=es2022 --define:import.meta.url='""' --loader:.wasm=base64 --log-level=warning \
  --log-override:duplicate-object-key=silent --outfile=web/dist/edge-net-sw.js

size=$(gzip -9 --stdout "$wasm" | wc -c)
limit=170000
echo "service worker: WASM $(wc -c < "$wasm") bytes, $size gzipped (limit $limit);" \
  "script $(gzip -9 --stdout web/dist/edge-net-sw.js | wc -c) gzipped"
[ "$size" -le "$limit" ] || {
  echo "the service worker's WASM exceeds its limit of $limit bytes gzipped" >&2
  exit 1
}
