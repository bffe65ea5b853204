#!/bin/sh
# Counts the instructions of each stage of a request and holds them against benches/instructions/baseline.json.
# BASELINE=write writes a new one, what is higher only with REASON="why"; STAGES=JWT takes only stages with that in their name.
set -eu
cd "$(dirname "$0")/../.."
deploy/ci/ensure.sh instructions
exec cargo bench --locked --profile instructions --no-default-features --features gateway,mimalloc --bench instructions
