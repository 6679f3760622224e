# The only commands anyone needs; `make help` lists them.
#
# Nothing has to be installed by hand beside a Python 3.11+ (with venv), a Rust toolchain, make and a C
# compiler. Each step leaves a stamp in the virtual environment and is repeated only when what it
# depends on has changed, so a second run needs no network.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

# ---- which Python -------------------------------------------------------------------------------------
# `.venv` belongs to the default interpreter and `.venv-3.12` to `make ... PYTHON=python3.12`.

ifdef PYTHON
  BASE_PYTHON := $(shell .ci/find-python '$(PYTHON)')
  ifeq ($(BASE_PYTHON),)
    $(error PYTHON=$(PYTHON) cannot be used: see the line above)
  endif
  VENV := .venv-$(shell '$(BASE_PYTHON)' -c 'import sys; print("%d.%d" % sys.version_info[:2])')
else
  VENV := .venv
  BASE_PYTHON = $(shell .ci/find-python)
endif
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input --quiet

# ---- Rust ---------------------------------------------------------------------------------------------
# One target directory for each environment: PyO3 is compiled for one Python, and switching would
# build everything again. A CARGO_TARGET_DIR of the caller's is honoured.

export PATH := $(PATH):$(HOME)/.cargo/bin
CARGO_TARGET_DIR ?= target/$(patsubst .%,%,$(VENV))
export CARGO_TARGET_DIR
CARGO_FLAGS := --workspace --locked

# Test binaries embed Python: they need its library when they are linked and when they run.
LIBPYTHON := import os, sys, sysconfig as s; v = s.get_config_var; \
  dirs = [d for d in (v("LIBDIR"), os.path.join(sys.base_prefix, "lib"), v("LIBPL")) if d]; \
  have = [d for d in dirs if os.path.exists(os.path.join(d, v("LDLIBRARY") or "none"))]; \
  print(os.pathsep.join(have))

SOURCES := pyproject.toml Cargo.toml Cargo.lock README.md LICENSE \
  $(shell find crates python -type f ! -name '*.pyc' ! -name '*.so' ! -name '.*')

.PHONY: help run test test-rust test-python fuzz peers bench lint format wheel lock clean build FORCE

help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 22
	echo
	echo '  PYTHON=/path/to/python   another interpreter, in an environment of its own (.venv-3.12)'
	echo '  PYTEST_ARGS="-k name"    more words for pytest'

# ---- the main job -------------------------------------------------------------------------------------

run: build $(VENV)/.bench ## build, serve a web application under load on each loop, then the quick benchmarks
	@echo "── A web application under load: examples/serve_and_load.py"
	$(PY) examples/serve_and_load.py --quick
	echo
	echo "── The quick benchmark suite: benchmarks/pyloop/run_all.py --quick"
	$(PY) benchmarks/pyloop/run_all.py --quick

bench: build $(VENV)/.bench ## the whole benchmark suite; writes its tables and plots
	@$(PY) benchmarks/pyloop/run_all.py $(BENCH_ARGS)
	$(PY) benchmarks/pyloop/bench_io.py --bars --page benchmarks/pyloop/IO_RESULTS.md \
	  --json benchmarks/pyloop/results/bench_io.json

# ---- tests --------------------------------------------------------------------------------------------

test: test-rust test-python ## everything CI tests

test-rust: $(VENV)/.build ## the tests of the plain-Rust rooms
	@libraries=$$($(PY) -c '$(LIBPYTHON)')
	if [ -z "$$libraries" ]; then
	  echo "!! The Rust tests are left out: this Python ships no libpython to link them with."
	  exit 0
	fi
	export PYO3_PYTHON="$$PWD/$(PY)" LD_LIBRARY_PATH="$$libraries$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}"
	export LIBRARY_PATH="$$libraries$${LIBRARY_PATH:+:$$LIBRARY_PATH}"
	cargo test $(CARGO_FLAGS)

test-python: build $(VENV)/.test ## the tests of the package
	@$(PY) -m pytest tests $(PYTEST_ARGS)

SECONDS_OF_FUZZ := $(if $(filter command%,$(origin SECONDS)),$(SECONDS),60)

fuzz: build $(VENV)/.test ## random scripts on asyncio's transports and ours, compared (SECONDS=60, FIRST=seed)
	@python="$$PWD/$(PY)"
	cd tests/pyloop
	"$$python" -m support.transport_compare --seconds $(SECONDS_OF_FUZZ) --first "$${FIRST:-$$RANDOM$$RANDOM}"

peers: build $(VENV)/.test ## uvloop's own tests, fetched into .cache/, on PyLoop
	@$(PY) tests/peers/run.py $(PEERS_ARGS)

# ---- lint ---------------------------------------------------------------------------------------------

lint: build $(VENV)/.test $(VENV)/.lint ## formatting, clippy, ruff, strict types, and the stub against the module
	@export PYO3_PYTHON="$$PWD/$(PY)"
	failed=""
	check() { echo "── $$1"; shift; "$$@" || failed=1; }
	check "cargo fmt" cargo fmt --all -- --check
	check "cargo clippy" cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	check "ruff check" $(PY) -m ruff check .
	check "ruff format" $(PY) -m ruff format --check .
	check "mypy" $(PY) -m mypy
	check "stubtest" $(PY) -m mypy.stubtest data_bridge.pyloop._native --mypy-config-file pyproject.toml
	[ -z "$$failed" ]

format: $(VENV)/.lint ## write the formatting that lint asks for
	@cargo fmt --all
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# ---- building -----------------------------------------------------------------------------------------

build: $(VENV)/.pyloop ## the release wheel, built and installed in the environment

$(VENV)/.python: FORCE
	@have() { cat $@ 2>/dev/null; }
	works() { $(PY) -c 'import sys, pip; assert sys.version_info >= (3, 11)' 2>/dev/null; }
	if ! works || { [ -n '$(PYTHON)' ] && [ "$$(have)" != '$(BASE_PYTHON)' ]; }; then
	  base='$(BASE_PYTHON)'
	  [ -n "$$base" ] || exit 1
	  echo "── $(VENV): a new environment for $$("$$base" -V)"
	  rm -rf $(VENV)
	  "$$base" -m venv $(VENV)
	  printf '%s\n' "$$base" > $@
	elif [ ! -e $@ ]; then
	  touch $@
	fi

$(VENV)/.build $(VENV)/.test $(VENV)/.bench $(VENV)/.lint: $(VENV)/.%: requirements/%.txt $(VENV)/.python
	@echo "── $(VENV): requirements/$*.txt"
	$(PIP) install -r requirements/$*.txt
	touch $@

$(VENV)/.pyloop: $(SOURCES) $(VENV)/.build
	@command -v cargo > /dev/null || { echo "A Rust toolchain is needed: cargo was not found" >&2; exit 1; }
	echo "── $(VENV): building and installing the release wheel"
	rm -rf $(VENV)/wheel
	touch $@.begun
	$(PY) -m maturin build --release --locked --quiet --interpreter "$$PWD/$(PY)" --out $(VENV)/wheel
	$(PIP) install --no-index --no-deps --force-reinstall $(VENV)/wheel/*.whl
	$(PY) -c 'import data_bridge.pyloop as p; print("   PyLoop", p.__version__, "is ready")'
	mv $@.begun $@

wheel: $(VENV)/.build ## a release wheel for each Python found here, and the source distribution, in dist/
	@mkdir -p dist
	$(PY) -m maturin sdist --out dist
	.ci/find-python --all | while IFS= read -r python; do
	  echo "── $$("$$python" -V)"
	  tag=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	  CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/wheel-$$tag \
	    $(PY) -m maturin build --release --locked --quiet --interpreter "$$python" --out dist < /dev/null
	done
	ls -l dist

# ---- housekeeping -------------------------------------------------------------------------------------

LOCK := $(PY) -m uv pip compile --universal --python-version 3.11 --no-annotate --no-header --quiet
lock: $(VENV)/.python ## write requirements/*.txt anew from requirements/*.in (needs the network)
	@$(PIP) install uv
	cd requirements
	uv() { ../$(LOCK) "$$@"; }
	uv $(LOCK_ARGS) build.in test.in bench.in lint.in -o all.tmp
	for name in build test bench lint; do
	  uv -c all.tmp $$name.in -o $$name.tmp
	  { echo "# Locked from $$name.in for every supported Python by \`make lock\`."; cat $$name.tmp; } > $$name.txt
	done
	rm -f *.tmp

clean: ## remove environments, builds and caches
	@rm -rf .venv .venv-* target dist .cache .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find python -name '*.so' -delete
