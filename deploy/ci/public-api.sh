#!/bin/sh
# Compares the public API of the library with tests/public-api/recorded.txt. UPDATE=1 records it.
set -eu
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
# rustdoc writes JSON only with unstable options, which this variable allows in a stable compiler. It affects the documentation only.
RUSTC_BOOTSTRAP=1 cargo rustdoc --locked --lib --no-default-features --features axum,sqlite,postgres,redis \
    --target-dir "$target/public-api" -- -Zunstable-options --output-format json
version=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"name":"keygate","version":"\([^"]*\)".*/\1/')
exec cargo run --locked --quiet --manifest-path tests/public-api/Cargo.toml --target-dir "$target/public-api" -- \
    "$target/public-api/doc/keygate.json" tests/public-api/recorded.txt "$version"
