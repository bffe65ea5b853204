#!/bin/sh
# Runs every fuzz target for the given number of seconds: `fuzz.sh 30`; or one target: `fuzz.sh 30 ttl`. Uses libFuzzer on the
# stable toolchain: coverage passes are ordinary compiler flags, only sanitizers would need nightly.
set -eu

seconds=$1
folder=$(CDPATH='' cd -- "$(dirname -- "$0")/../../tests/fuzz" && pwd)
targets=${2:-$(ls "$folder/corpus")}
host=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-$folder/../../target}/fuzz
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT

# --target keeps the flags away from build scripts, which are not linked with the fuzzer.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table" \
    cargo build --locked --release --quiet --manifest-path "$folder/Cargo.toml" --target "$host" --target-dir "$build" --bins

for target in $targets; do
    echo "--- $target"
    # New inputs go to a temporary folder: the corpus in the repository is curated by hand.
    mkdir "$found/$target"
    "$build/$host/release/$target" "$found/$target" "$folder/corpus/$target" -max_total_time="$seconds" -max_len=16384 -artifact_prefix="$folder/" -verbosity=0 -print_final_stats=1
done
