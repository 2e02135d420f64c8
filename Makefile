# `make demo` and `make test` set up all they need by themselves, on a machine with git, make and Rust.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Without the AWS SDKs: minutes instead of a quarter of an hour. The tests build everything.
LEAN := --locked --no-default-features
TARGET := $(or $(CARGO_TARGET_DIR),target)
NEXTEST := $(shell command -v cargo-nextest)
DENY := $(shell command -v cargo-deny)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Watch Kagero preview pull requests of a small shop on this machine (ONCE=1: one tour, then end)
	@tools/setup demo
	@cargo build $(LEAN) --bin kagero --example shop
	@$(TARGET)/debug/kagero demo $(if $(ONCE),--once) $(ARGS)

.PHONY: test
test: ## Run every test against real counterparts (T=text: only tests whose name contains it)
	@tools/setup test
ifndef T
	@tests/infra/run
endif
ifdef NEXTEST
	@cargo nextest run --locked $(T)
else
	@cargo test --locked $(T)
endif

.PHONY: test-infra
test-infra: ## Check infra/: templates, permissions, reachability, a deployment on moto (T=text: only these)
	@tools/setup infra
	@tests/infra/run $(T)

.PHONY: lint
lint: lint-fast ## Formatting, clippy with and without the AWS part, licences and banned crates
	@cargo clippy --locked --all-targets -- -D warnings
ifdef DENY
	@cargo deny --log-level error check licenses bans sources
else
	@echo "cargo-deny is not installed. Install it with: cargo install --locked cargo-deny" >&2; exit 1
endif

.PHONY: lint-fast
lint-fast: ## Formatting and clippy, without the AWS part
	@tools/setup lint
	@cargo fmt --check
	@cargo clippy $(LEAN) --all-targets -- -D warnings

.PHONY: audit
audit: ## Known vulnerabilities in the dependencies (needs the advisory database on github.com)
ifdef DENY
	@cargo deny --log-level error check advisories
else
	@echo "cargo-deny is not installed. Install it with: cargo install --locked cargo-deny" >&2; exit 1
endif

.PHONY: bench
bench: ## Measure (ARGS="start gateway": only these)
	@tools/setup bench
	@cargo build $(LEAN) --release --example shop
	@cargo bench $(LEAN) --bench measure -- $(ARGS)

.PHONY: bench-aws
bench-aws: ## Measure on moto: calls of environments, and the sweep beside Cloud Custodian (SWEPT=500: how many things)
	@tools/setup test
	@set -o pipefail; KAGERO_SWEPT=$(or $(SWEPT),500) KAGERO_SIMULATED=$(or $(SIMULATED),10000) \
		cargo test --locked --test ladder -- --nocapture --test-threads 1 aws::fleet aws::swept convergence::economy \
		| grep -oE '(fleet|steps|swept) {4}.*|^test result.*|panicked.*'

.PHONY: soak
soak: ## Live through random histories of the simulation (SEEDS=100000, FIRST=0: from which seed on)
	@tools/setup test
	@KAGERO_SEEDS=$(or $(SEEDS),100000) KAGERO_FIRST_SEED=$(or $(FIRST),0) \
		cargo test $(LEAN) --release --test ladder -- --nocapture convergence::histories::whatever_happens

.PHONY: kills
kills: ## Kill the controller again and again over a stream of events, on both stores (KILLS=200, SEED=1: the same events again)
	@tools/setup test
	@KAGERO_KILLS=$(or $(KILLS),200) $(if $(SEED),KAGERO_KILLS_SEED=$(SEED)) cargo test $(LEAN) --test ladder -- process::kills --nocapture --test-threads 1

.PHONY: mutants
mutants: ## Change the decisions about deletion one by one and see that a test notices each (ARGS="--list", …)
	@tools/setup mutants
	@tools/mutants --timeout 60 $(ARGS)

.PHONY: setup
setup: ## Install what demo, test, lint and bench need; nothing if all is there
	@tools/setup demo test lint bench

.PHONY: bare
bare: ## Prove demo and test on an empty Debian in namespaces of its own (needs root)
	@tools/bare-machine

.PHONY: clean-state
clean-state: ## Forget the demo's environments and databases (refuses while it runs)
	@tools/clean-state
