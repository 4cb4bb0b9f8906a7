# Everything the project needs is made here, inside the work tree: a virtual environment, the compiled
# extension, caches. `make check test` is what .ci/run runs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= $(shell command -v python3.11 || command -v python3)
CARGO ?= cargo

export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

# Recipes see the virtual environment as if it were activated.
BIN := $(CURDIR)/.venv/bin
export VIRTUAL_ENV := $(CURDIR)/.venv
export PYO3_PYTHON := $(BIN)/python
export PATH := $(BIN):$(PATH)

RUST_SOURCES := Cargo.toml Cargo.lock $(wildcard rust/*/Cargo.toml) \
    $(shell find rust -path rust/fuzz -prune -o \( -name '*.rs' -o -name build.rs \) -print 2>/dev/null)
PYTHON_TREES := $(wildcard python tests tools benches)

.PHONY: help setup build run test test-rust test-python check check-rust check-python check-licences \
    bench bench-spool crash teeth demo debian fuzz clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: .venv/.installed ## Make the virtual environment from requirements.lock

.venv/.installed: requirements.lock
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	python -m pip install --quiet --require-hashes -r requirements.lock
	touch $@

# maturin removes the old library before it puts the new one there, so a running daemon keeps its own copy. It
# asks pip for the dependencies once more; they are there, with their hashes checked, so no index is asked.
target/.extension: .venv/.installed pyproject.toml README.md $(RUST_SOURCES)
	PIP_NO_INDEX=1 PIP_QUIET=1 maturin develop --release --locked --quiet
	mkdir -p target
	touch $@

build: target/.extension ## Build the extension (release) into python/penstock

run: build ## Start the relay of examples/first.toml on 127.0.0.1:2525
	mkdir -p var
	exec penstock --config examples/first.toml serve

test: test-rust test-python ## All tests

test-rust: .venv/.installed
	$(CARGO) test --workspace --exclude penstock-bindings --locked --quiet

test-python: build debian
	python -m pytest

check: check-python check-rust check-licences ## Formatters, linters, types, stubs, import contracts, licences

check-python: build
	ruff format --check $(PYTHON_TREES)
	ruff check $(PYTHON_TREES)
	mypy
	python -m mypy.stubtest penstock._core
	lint-imports --no-logo

check-rust: .venv/.installed
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path rust/fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets --locked --quiet -- -D warnings

check-licences: .venv/.installed
	python tools/licences.py

crash: ## Cut stories of the spool off at every point, in every way (minutes)
	PENSTOCK_CRASH_ALL=1 $(CARGO) test --release --locked -p penstock-spool --test enumeration -- --nocapture

teeth: .venv/.installed ## Put defects into the spool, and demand that its tests catch each
	python -m tests.rig.teeth

bench-spool: ## What the spool costs, beside a bare loop of pwritev and fdatasync (PENSTOCK_BENCH_DIR: a disk)
	$(CARGO) bench --locked --quiet -p penstock-spool

bench: build debian bench-spool ## The spool's benchmarks; compare with Postfix; see benches/README.md
	python -m benches.compare

demo: build ## 100 messages through the relay, a failure, a deferral: a transcript
	python tools/demo.py

debian: .venv/.installed ## Unpack Debian's test programs into .cache/debian (no root, nothing installed)
	python tools/debian.py --quiet || true

FUZZ ?= commands
FUZZ_SECONDS ?= 60
fuzz: ## Fuzz one parser: make fuzz FUZZ=content FUZZ_SECONDS=60 (needs cargo-fuzz)
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir rust/fuzz $(FUZZ) -- -max_total_time=$(FUZZ_SECONDS)

clean: ## Remove what was built; keeps var/ (mail) and .cache/ (downloads)
	rm -rf target .venv python/penstock/_core*.so rust/fuzz/target
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(PYTHON_TREES) -name __pycache__ -type d -prune -exec rm -rf {} +
