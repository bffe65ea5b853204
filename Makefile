# `make run` and `make test` are all that a newcomer needs; each checks and installs its own tools.

CARGO_TARGET_DIR ?= target
ARGS ?=
# Where `make install` puts the binary: PREFIX/bin.
PREFIX ?= $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)

# A package of its own, because the first published SDK cannot be linked next to the current one.
SDK_FIRST = --manifest-path tests/sdk-first/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/sdk-first
# A package of its own, because it embeds the library with few features.
EMBEDDING = --manifest-path tests/embedding/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/embedding
# The baseline of `make bench`: a minimal pingora proxy.
BARE_PROXY = --manifest-path benches/bare-proxy/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/bare-proxy

# The tests that hold on both paths of the gateway: freshness, security, limits, failures, and how requests are forwarded.
PROXY_PATH_TESTS = gateway|http1|streams|upstreams|upstream_tls|routes|cors|credential_locations|limits|races|cache_races|revocation|rotation|derived|failures|client_address|connections|conformance|access_log

.PHONY: help run install release test test-proxy-path documents lint testdeploy fuzz bench screenshots

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

run: ## Build and start `keygate dev`; ARGS="--upstream http://127.0.0.1:9000" protects your API
	@deploy/ci/ensure.sh build
	cargo build --locked
	@echo "The binary is $(CARGO_TARGET_DIR)/debug/keygate, built for development; make install builds the optimised one."
	@exec $(CARGO_TARGET_DIR)/debug/keygate dev $(ARGS)

install: ## Build the optimised binary (minutes) and install it to PREFIX/bin, by default ~/.local/bin, as root /usr/local/bin
	@deploy/ci/ensure.sh build
	cargo build --release --locked
	@install -d "$(DESTDIR)$(PREFIX)/bin"
	@install -m 755 $(CARGO_TARGET_DIR)/release/keygate "$(DESTDIR)$(PREFIX)/bin/keygate"
	@echo "The binary is $(DESTDIR)$(PREFIX)/bin/keygate."

release: ## Build the binary as it is published, target/pgo/keygate: optimised by a profile of its execution; twice the time of make install
	@deploy/ci/ensure.sh release
	deploy/pgo/build.sh

test: ## Run all tests
	@deploy/ci/ensure.sh test
	cargo build --locked $(SDK_FIRST)
	cargo nextest run --locked --all-features
	cargo test --locked --doc --all-features
	CMAKE=cmake-is-not-needed cargo run --locked $(EMBEDDING)

test-proxy-path: ## Run the tests of the gateway without its fast path (docs/performance.md)
	@deploy/ci/ensure.sh test
	TESTS_WITHOUT_FAST_PATH=1 cargo nextest run --locked --all-features -E 'test(/^($(PROXY_PATH_TESTS))/) & package(keygate) & kind(test)'

documents: ## Write the documents that are generated: metrics, conformance, and the references of settings, commands and the admin API
	@deploy/ci/ensure.sh test
	KEYGATE_WRITE_DOCUMENTS=1 cargo nextest run --locked --all-features generated_document

lint: ## Check format, lints, docs, licences and sources
	@deploy/ci/ensure.sh lint
	cargo fmt --check
	cargo fmt --check --manifest-path tests/sdk-first/Cargo.toml
	cargo fmt --check --manifest-path tests/embedding/Cargo.toml
	cargo fmt --check --manifest-path tests/public-api/Cargo.toml
	cargo fmt --check --manifest-path tests/servers/Cargo.toml
	cargo fmt --check --manifest-path benches/bare-proxy/Cargo.toml
	cargo clippy --locked --all-targets --all-features -- -D warnings
	cargo clippy --locked $(SDK_FIRST) -- -D warnings
	cargo clippy --locked $(EMBEDDING) -- -D warnings
	cargo clippy --locked $(BARE_PROXY) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features
	deploy/ci/public-api.sh
	deploy/ci/deny.sh

testdeploy: ## Test the image, the chart, the manifests, the unit, the rules and the dashboard under deploy/
	@deploy/ci/ensure.sh deploy
	deploy/ci/deploy.sh

fuzz: ## Fuzz every parser of untrusted text, 30 seconds each
	@deploy/ci/ensure.sh fuzz
	deploy/ci/fuzz.sh 30

screenshots: ## Take the pictures of the console in docs/console
	@deploy/ci/ensure.sh test
	KEYGATE_SCREENSHOTS=$(CURDIR)/docs/console cargo nextest run --locked --all-features every_page_is_accessible

# Debian installs nginx and HAProxy to /usr/sbin, which is not on the PATH of most users; deploy/ci/ensure.sh installs Envoy to the target folder.
bench: export PATH := $(PATH):/usr/sbin:$(abspath $(CARGO_TARGET_DIR))/envoy/bin
bench: ## Compare the cost of a request with bare pingora and other gateways; ROUNDS=5 SECONDS=4, GROWTH=1, ONLY=tls, KEYGATE=a/binary
	@deploy/ci/ensure.sh bench
	[ -n "$(KEYGATE)" ] || $(MAKE) release
	[ -n "$(BARE)" ] || cargo build --release --locked $(BARE_PROXY)
	cargo bench --profile compare --locked --bench compare
