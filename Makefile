# `make run` and `make test` are all that a newcomer needs; `make help` lists the rest.

# One target folder for all checkouts of this machine: RocksDB, ten minutes of C++, is compiled once and
# not once per checkout or CI run. Override it with CARGO_TARGET_DIR.
XDG_CACHE_HOME ?= $(HOME)/.cache
CARGO_TARGET_DIR ?= $(XDG_CACHE_HOME)/leveret/target
export CARGO_TARGET_DIR

# One profile everywhere, for the same reason: see Cargo.toml.
CARGO_FLAGS := --release --locked

LEVERET := $(CARGO_TARGET_DIR)/release/leveret

.DEFAULT_GOAL := help
.PHONY: help run build test lint doc bench bench-hot-path instructions test-docker setup-build setup-test setup-docker

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## build the broker and run it on 127.0.0.1:5672 with its data in ./data
	exec $(LEVERET)

build: setup-build ## build the broker
	cargo build $(CARGO_FLAGS)

test: setup-test lint ## everything: lint, unit and protocol tests, real clients, examples, comparison with RabbitMQ
	cargo test $(CARGO_FLAGS) # builds the broker as well, which the rest then runs
	conformance/run.sh
	examples/run.sh
	conformance/differential/run.py --leveret $(LEVERET)

lint: setup-build ## formatting, lints and documentation
	cargo fmt --check
	cargo fmt --check --manifest-path conformance/rust/Cargo.toml
	cargo fmt --check --manifest-path examples/rust/Cargo.toml
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	cargo clippy $(CARGO_FLAGS) --all-targets --manifest-path conformance/rust/Cargo.toml -- -D warnings
	cargo clippy $(CARGO_FLAGS) --all-targets --manifest-path examples/rust/Cargo.toml -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --no-deps --document-private-items

bench: setup-test ## Leveret and RabbitMQ side by side; writes docs/performance.md
	benches/peers/run

bench-hot-path: setup-build ## micro-benchmarks of the path of a message
	cargo bench --locked --bench hot_path

instructions: setup-test ## instructions that a message takes, which a noisy machine cannot hide (valgrind)
	benches/instructions/run

test-docker: setup-docker build ## the container image and the compose file, against a real engine
	conformance/docker/run.sh $(LEVERET)

# What a bare machine lacks is installed on the way: see the script.
setup-build:
	@conformance/setup.sh build

setup-test:
	@conformance/setup.sh build test

setup-docker:
	@conformance/setup.sh build docker
