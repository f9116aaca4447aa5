# `make` or `make help` says what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where rustup puts cargo, for shells that haven't read its environment yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
# Instances, images and the journal. Kept from run to run.
TALLYMAN_DATA ?= $(CURDIR)/.tallyman
run demo image fleet: export TALLYMAN_DATA := $(TALLYMAN_DATA)

TARGET := $(or $(CARGO_TARGET_DIR),target)
TALLYMAN := $(TARGET)/release/tallyman
SWAP := --swap-policy $(TARGET)/policies/coarse.wasm

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: image ## Set up, build, walk a Linux guest through its life, then keep serving
	@exec $(TALLYMAN) tour --keep $(SWAP)

.PHONY: demo
demo: image ## The same walk, then stop; the exit status says whether the times add up
	@exec $(TALLYMAN) tour $(SWAP)

.PHONY: fleet
fleet: image ## Start a collector and three hosts, a guest on each, and show one bill over all
	@scripts/fleet $(TALLYMAN) "$(TALLYMAN_DATA)/images"

.PHONY: image
image: build ## Build the Linux image debian-busybox, if it isn't there
	@test -d "$(TALLYMAN_DATA)/images/debian-busybox" || $(TALLYMAN) image build debian-busybox

.PHONY: build
build: ## Set up and build the program: target/release/tallyman
	@scripts/setup run
	@cargo build --release --locked -p tallyman

.PHONY: unit
unit: ## Run the unit tests: under a minute once they are built
	@cargo test --locked --workspace --lib

.PHONY: test
test: ## Set up and run all tests, real virtual machines included
	@scripts/setup test
	@scripts/test

.PHONY: test-all
test-all: lint doc test ## Everything that must hold before a release: lints, documentation, tests

SEEDS ?= 200
SEED ?= 1
.PHONY: simulate
simulate: ## Simulate SEEDS hosts with their crashes, from the seed SEED on
	@SEEDS=$(SEEDS) SEED=$(SEED) cargo test --locked --workspace --test simulation \
		-- every_seed --nocapture

.PHONY: soak
soak: ## The long runs, by hand: 20,000 seeds, and 100,000 bills against the oracle
	@$(MAKE) simulate SEED=100001 SEEDS=20000
	@ORACLE_CASES=100000 cargo test --locked --workspace --test biller

.PHONY: conformance
conformance: ## Set up and try every operation on every hypervisor of this host
	@scripts/setup test
	@cargo test --locked --workspace --test conformance

.PHONY: oracle
oracle: ## Hold the biller against the oracle in 100,000 scenarios, and count the pairs of features
	@ORACLE_CASES=100000 ORACLE_PAIRS=100000 cargo test --release --locked -p tallyman-oracle \
		-- --nocapture

.PHONY: interpreted
interpreted: build ## Build the templates in four languages, and hold them against the kit
	@scripts/setup interpreted
	@scripts/interpreted $(TALLYMAN)

.PHONY: bench
bench: ## Set up and run the benchmarks
	@scripts/setup bench
	@cargo bench --locked -p tallyman-tests

.PHONY: package
package: ## Set up and build the program small, and a Debian package of it in target/
	@scripts/setup run
	@cargo build --profile dist --locked -p tallyman
	@scripts/package $(TARGET)/dist/tallyman $(TARGET)

.PHONY: audit
audit: ## Check known vulnerabilities, licences and sources of all dependencies; needs the network
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	@cargo deny --locked check

.PHONY: bench-large
bench-large: ## Benchmark a journal of 30,000,000 facts; takes half an hour and 20 GB of disk
	@scripts/setup bench
	@cargo bench --locked -p tallyman-tests -- large

.PHONY: fmt
fmt: ## Format the code
	@cargo fmt --all

.PHONY: lint
lint: ## Check the format and the lints
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: doc
doc: ## Build the documentation of the code; warnings are errors
	@RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked
