#!/bin/sh
# Licences, bans, sources and advisories of every dependency. The database of advisories lives on the internet; where it
# cannot be reached, that is said, and the rest still counts.
set -eu

config=deploy/ci/deny.toml
cargo deny --config "$config" check bans licenses sources

if cargo deny --config "$config" fetch db >/dev/null 2>&1; then
    cargo deny --config "$config" check --disable-fetch advisories
else
    echo "advisories: NOT CHECKED, the database cannot be reached"
fi
