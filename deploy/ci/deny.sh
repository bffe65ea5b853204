#!/bin/sh
# Checks the licences, bans, sources and advisories of all dependencies. If the advisory database cannot be downloaded, the
# script says so and skips the advisories; the other checks still count.
set -eu

config=$PWD/deploy/ci/deny.toml
manifests="Cargo.toml tests/sdk-first/Cargo.toml benches/bare-proxy/Cargo.toml"

for manifest in $manifests; do
    cargo deny --config "$config" --manifest-path "$manifest" --locked check bans licenses sources
done

if cargo deny --config "$config" --locked fetch db >/dev/null 2>&1; then
    for manifest in $manifests; do
        cargo deny --config "$config" --manifest-path "$manifest" --locked check --disable-fetch advisories
    done
else
    echo "advisories: NOT CHECKED, the database cannot be downloaded"
fi
