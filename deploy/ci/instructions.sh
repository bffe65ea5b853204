#!/bin/sh
# Counts the instructions of each stage of a request and compares them with benches/instructions/baseline.json.
# BASELINE=write writes a new baseline; higher counts need REASON="why". STAGES=JWT runs only stages with that in their name.
set -eu
cd "$(dirname "$0")/../.."
deploy/ci/ensure.sh instructions
exec cargo bench --locked --profile instructions --no-default-features --features gateway,layer,mimalloc --bench instructions
