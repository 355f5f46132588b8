# make serve   the whole system on this machine; prints the demo page's address. Ports: PORT, EDGE_PORT, GCS_PORT, IPFS_PORT
# make test    everything that is checked
# make long    downloads of more than six minutes, in Chromium and in Firefox (ten minutes, next to no CPU); 10,000 embeddings
# make deploy  puts the edge and the worker that embeds on Cloudflare, as [env.production] of their wrangler.toml says
# make npm     the command line tool as an npm package, in target/npm/
# make bench-cli  the tool beside curl and sha256sum
# make bench   loading beside Workbox, transformers.js and Helia in one Chromium (see benches/README.md)
SHELL := bash
PORT ?= 8080
EDGE_PORT ?= 8787
GCS_PORT ?= 4443
IPFS_PORT ?= 8088

# RUST_BIN, the toolchain that set-up chose: one for native code and WASM. Make runs set-up when this file is missing or old.
include .tools/env
export PATH := $(RUST_BIN):$(PATH)

WASM_CRATES := edge-net-driver edge-net-worker-edge edge-net-worker-inference edge-net-worker-sw
WASM_TESTED := edge-net-driver edge-net-worker-sw
CORE := Cargo.toml Cargo.lock .cargo/config.toml $(shell find src crates/driver -type f -not -path '*/tests/*')
ORT := $(addprefix web/dist/ort/,ort.wasm.min.mjs ort-wasm-simd-threaded.mjs ort-wasm-simd-threaded.wasm)

WRANGLER := WRANGLER_SEND_METRICS=false node_modules/.bin/wrangler

.PHONY: serve test test-wasm long bench bench-edge bench-inference setup build cli sw edge inference web lint fmt deploy logged-in deploy-dry-run npm bench-cli
.DELETE_ON_ERROR:

serve: setup build
	@exec node dev/stack.mjs --web $(PORT) --edge $(EDGE_PORT) --gcs $(GCS_PORT) --ipfs $(IPFS_PORT)

test: setup lint build
	cargo test --release
	$(MAKE) test-wasm
	node --test tests/*.test.mjs

# The Rust tests of the driver and the service worker, in Node with a fake host.
test-wasm: setup
	CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$(CURDIR)/.tools/bin/wasm-bindgen-test-runner \
	  cargo test --target wasm32-unknown-unknown --lib --tests $(addprefix --package ,$(WASM_TESTED))

npm: setup cli
	node cli/npm.mjs

long: setup build
	node tests/long.mjs
	REQUESTS=10000 node --test --test-name-pattern='memory of the isolate' tests/embeddings.test.mjs

bench: setup build
	cd benches && npm ci --no-audit --no-fund --loglevel=error
	node benches/browser.mjs $(BENCH)

bench-edge: setup build
	node benches/edge.mjs $(BENCH)

bench-inference: setup build
	node benches/inference.mjs $(BENCH)

bench-cli: setup cli
	node benches/cli.mjs $(BENCH)

setup:
	@dev/setup.sh

.tools/env: dev/setup.sh dev/requirements.txt package-lock.json
	@dev/setup.sh

build: cli sw edge inference web

cli:
	cargo build --release --package edge-net-cli

sw: web/dist/edge-net-sw.js
web/dist/edge-net-sw.js: $(CORE) $(shell find worker-sw -type f -not -path 'worker-sw/build/*' -not -path '*/tests/*')
	worker-sw/build.sh

edge: worker-edge/build/index.js # which worker-edge/entry.js imports as it stands
worker-edge/build/index.js: $(CORE) $(shell find worker-edge manifests -type f -not -path 'worker-edge/build/*' -not -name entry.js)
	cd worker-edge && WASM_BINDGEN_BIN="$(CURDIR)/.tools/bin/wasm-bindgen" WASM_OPT_BIN="$(CURDIR)/node_modules/.bin/wasm-opt" \
	  ESBUILD_BIN="$(CURDIR)/node_modules/.bin/esbuild" "$(CURDIR)/.tools/bin/worker-build" --profile wasm

inference: worker-inference/build/inference.wasm # which worker-inference/entry.js imports as it stands
worker-inference/build/inference.wasm: $(CORE) $(shell find crates/inference crates/onnx worker-inference -type f -not -path 'worker-inference/build/*' -not -name entry.js -not -name wrangler.toml)
	worker-inference/build.sh

web: $(ORT) web/dist/tokenizers.mjs
web/dist/tokenizers.mjs: node_modules/@huggingface/tokenizers/dist/tokenizers.min.mjs package-lock.json
	@mkdir -p $(@D)
	cp $< $@
web/dist/ort/%: node_modules/onnxruntime-web/dist/% package-lock.json
	@mkdir -p $(@D)
	cp $< $@

lint: # pedantic: see [workspace.lints] in Cargo.toml
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --target wasm32-unknown-unknown $(addprefix --package ,$(WASM_CRATES)) -- -D warnings
	cargo clippy --target wasm32-unknown-unknown --tests $(addprefix --package ,$(WASM_TESTED)) -- -D warnings

fmt:
	cargo fmt --all

DEPLOY_INFERENCE := $(WRANGLER) deploy --config worker-inference/wrangler.toml

deploy: setup logged-in edge inference
	@# Each worker is bound to the other: the first time, one of them has to be there without its binding.
	@$(WRANGLER) deployments list --config worker-inference/wrangler.toml --env production > /dev/null 2>&1 || $(DEPLOY_INFERENCE) --env first
	$(WRANGLER) deploy --env production
	$(DEPLOY_INFERENCE) --env production

# whoami ends well also when nobody is.
logged-in:
	@if $(WRANGLER) whoami 2>&1 | grep --quiet 'not authenticated'; then \
	  echo 'make deploy: not logged in to Cloudflare; run npx wrangler login, or set CLOUDFLARE_API_TOKEN' >&2; exit 1; fi

deploy-dry-run: edge inference
	$(WRANGLER) deploy --dry-run --env production
	$(DEPLOY_INFERENCE) --dry-run --env production
