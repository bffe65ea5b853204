# `make run` and `make test` are all that a newcomer needs; each sees to what it needs itself.

CARGO_TARGET_DIR ?= target
ARGS ?=
# The first published SDK cannot be linked beside the current one, so its tests are a package of their own.
SDK_FIRST = --manifest-path tests/sdk-first/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/sdk-first

# The yardstick of `make bench`: the least that a pingora proxy can do.
BARE_PROXY = --manifest-path benches/bare-proxy/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/bare-proxy

.PHONY: help run test lint fuzz bench

help: ## Show what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

run: ## Build and start `keygate dev`; ARGS="--upstream http://127.0.0.1:9000" protects your API
	@deploy/ci/ensure.sh build
	cargo build --release --locked
	@exec $(CARGO_TARGET_DIR)/release/keygate dev $(ARGS)

test: ## Run every test
	@deploy/ci/ensure.sh test
	cargo build --locked $(SDK_FIRST)
	cargo nextest run --locked --all-features
	cargo test --locked --doc --all-features

lint: ## Check format, lints, docs, licences and sources
	@deploy/ci/ensure.sh lint
	cargo fmt --check
	cargo fmt --check --manifest-path tests/sdk-first/Cargo.toml
	cargo fmt --check --manifest-path tests/servers/Cargo.toml
	cargo fmt --check --manifest-path benches/bare-proxy/Cargo.toml
	cargo clippy --locked --all-targets --all-features -- -D warnings
	cargo clippy --locked $(SDK_FIRST) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features
	deploy/ci/deny.sh

fuzz: ## Feed new input to what parses untrusted text, half a minute for each target
	@deploy/ci/ensure.sh fuzz
	deploy/ci/fuzz.sh 30

# Where Debian has nginx and HAProxy, and most users do not look.
bench: export PATH := $(PATH):/usr/sbin
bench: ## Compare what a request costs with bare pingora and other gateways; ROUNDS=5 SECONDS=4, GROWTH=1, KEYGATE=a/binary
	@deploy/ci/ensure.sh bench
	[ -n "$(KEYGATE)" ] || cargo build --release --locked
	[ -n "$(BARE)" ] || cargo build --release --locked $(BARE_PROXY)
	cargo bench --profile compare --locked --bench compare
