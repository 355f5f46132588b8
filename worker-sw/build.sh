#!/usr/bin/env bash
# Builds web/dist/edge-net-sw.js: the service worker as one classic script that contains its WASM.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

# Panic messages contain source paths. Shorten them, so that the module is the same wherever it is
# built.
cargo fetch --quiet --locked --target wasm32-unknown-unknown
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
remap=$(for index in "$registry"/*/; do printf '"--remap-path-prefix=%s=", ' "$index"; done)
cargo build --quiet --package edge-net-worker-sw --profile wasm --target wasm32-unknown-unknown \
  --config "target.wasm32-unknown-unknown.rustflags = [${remap}\"--remap-path-prefix=$PWD/=\"]"
mkdir -p worker-sw/build web/dist
.tools/bin/wasm-bindgen --target web --no-typescript --out-dir worker-sw/build \
  "$target/wasm32-unknown-unknown/wasm/edge_net_worker_sw.wasm"
wasm=worker-sw/build/edge_net_worker_sw_bg.wasm
node_modules/.bin/wasm-opt --merge-similar-functions -Oz --flatten --rereloop -Oz --flatten \
  --rereloop -Oz -Oz --converge --reorder-functions-by-name \
  --strip-producers --strip-target-features --enable-bulk-memory --enable-nontrapping-float-to-int \
  --enable-sign-ext --enable-mutable-globals --enable-reference-types --enable-multivalue \
  "$wasm" -o "$wasm.opt"
mv "$wasm.opt" "$wasm"
node_modules/.bin/esbuild worker-sw/js/edge-net-sw.js --bundle --minify --format=iife \
  --target=es2022 --define:import.meta.url='""' --loader:.wasm=base64 --log-level=warning \
  --log-override:duplicate-object-key=silent --outfile=web/dist/edge-net-sw.js

size=$(node --print "zlib.gzipSync(fs.readFileSync('$wasm'), { level: 9 }).length")
limit=170000
script=$(gzip -9 --stdout web/dist/edge-net-sw.js | wc -c)
echo "service worker: WASM $(wc -c < "$wasm") bytes, $size gzipped (limit $limit);" \
  "script $script gzipped"
[ "$size" -le "$limit" ] || {
  echo "the WASM of the service worker exceeds its limit of $limit bytes gzipped" >&2
  exit 1
}
