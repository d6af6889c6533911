# Every target works alone from a fresh clone: it makes .venv, installs what it needs and does its job.
# Needs python3.11 (or PYTHON=...), make and a C++17 compiler; CMake and Ninja come from pip.

PYTHON ?= python3.11
JOBS   ?= 2
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
STAMPS := $(VENV)/stamps
TESTS  ?= tests
QUESTION ?= all
PEERS_VENV := .venv-peers
PEERS_BIN  := $(PEERS_VENV)/bin
PEERS      := $(PEERS_VENV)/installed
ARM_TOOLS  := { command -v aarch64-linux-gnu-g++ && command -v qemu-aarch64-static; } >/dev/null

# Stamps are named by the content they stand for, so a changed, added or deleted file always leads to a new install.
digest   = $(shell cat $(1) 2>/dev/null | cksum | cut -d ' ' -f 1)
SOURCES := $(shell find src native cmake CMakeLists.txt CMakePresets.json pyproject.toml -type f \
             ! -name '*.pyc' ! -name '*.so' ! -name '*.md' 2>/dev/null | LC_ALL=C sort)
TOOLS   := $(STAMPS)/tools-$(call digest,pyproject.toml constraints.txt)
PACKAGE := $(STAMPS)/package-$(shell echo $(SOURCES) | cat - $(SOURCES) constraints.txt | cksum | cut -d ' ' -f 1)

.PHONY: demo demo-search test test-all lint bench bench-ptq bench-formats bench-groups bench-sparq bench-wide bench-per-token bench-search bench-zeroshot bench-cpu format sanitize setup-arm test-arm install clean help
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

demo: $(PACKAGE)  ## quantize a small CNN under several recipes, run it natively, print the table
	@$(BIN)/subbyte demo

demo-search: $(PACKAGE)  ## the smallest mix of formats for the same CNN; prints the frontier, draws build/frontier.svg
	@mkdir -p build
	@$(BIN)/subbyte demo --search --plot build/frontier.svg

test: $(PACKAGE)  ## tests with a tenth of the random cases (TESTS=tests/graph for a part)
	$(BIN)/python -m pytest -n $(JOBS) $(TESTS)

test-all: $(PACKAGE)  ## tests with all random cases
	SUBBYTE_TEST_SCALE=1 $(BIN)/python -m pytest -n $(JOBS) $(TESTS)

lint: $(PACKAGE)  ## ruff, mypy --strict, floors of the imports, house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/house_rules.py

bench: bench-cpu  ## speed: every target, in one run of less than 30 minutes; writes docs/results/cpu.md

bench-ptq: $(PACKAGE)  ## accuracy of every recipe and method on the real networks of ../shared/data; writes docs/results
	$(BIN)/python -m benchmarks.ptq

bench-formats: $(PACKAGE)  ## every weight format and operand format on six real networks; writes docs/results/formats.md
	$(BIN)/python -m benchmarks.formats

bench-groups: $(PACKAGE)  ## weights in groups beside one scale per channel on six networks; writes docs/results/groups.md
	$(BIN)/python -m benchmarks.groups

bench-wide: $(PACKAGE)  ## 16-bit activations and weights beyond int8: accuracy and time; writes docs/results/wide.md
	$(BIN)/python -m benchmarks.wide

bench-per-token: $(PACKAGE)  ## operands with a scale per token beside static ones; writes docs/results/per_token.md
	$(BIN)/python -m benchmarks.per_token

bench-sparq: $(PACKAGE)  ## moving windows on 8-bit activations beside plain 8 and 4 bits; writes docs/results/sparq.md
	$(BIN)/python -m benchmarks.sparq_time
	$(BIN)/python -m benchmarks.sparq

bench-zeroshot: $(PACKAGE)  ## calibration without data beside calibration with it; writes docs/results/zeroshot.md
	$(BIN)/python -m benchmarks.zeroshot

bench-search: $(PACKAGE)  ## search against uniform w4a8, and promised times under AVX2; writes docs/results/search.md
	$(BIN)/python -m benchmarks.search bytes
	$(BIN)/python -m benchmarks.search bytes_first_last
	$(BIN)/python -m benchmarks.search latency

bench-cpu: $(PEERS)  ## a part of it (QUESTION=nets): LiteRT, ONNX Runtime and OpenVINO beside our engine
	$(PEERS_BIN)/python -m benchmarks.cpu $(QUESTION)

format: $(TOOLS)  ## let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sanitize: $(TOOLS)  ## native tests under AddressSanitizer and UndefinedBehaviorSanitizer; shared plans under ThreadSanitizer
	export PATH="$(CURDIR)/$(BIN):$$PATH"; set -ex; for preset in sanitize tsan; do \
	  cmake --preset $$preset; cmake --build --preset $$preset -j $(JOBS); ctest --preset $$preset; done

setup-arm:  ## install Debian's compiler and emulator for 64-bit ARM where they are missing (needs apt and root or sudo)
	@if $(ARM_TOOLS); then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then echo "Nothing installed: there is no apt-get"; exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then root=; \
	elif sudo -n true 2>/dev/null; then root="sudo -n"; \
	else echo "Nothing installed: this user is not root and cannot become it without a password"; exit 0; fi; \
	$$root apt-get update -qq && $$root env DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends g++-aarch64-linux-gnu qemu-user-static

test-arm: $(TOOLS)  ## native tests for 64-bit ARM under qemu, and the kernels' instruction counts (after setup-arm)
	@if ! $(ARM_TOOLS); then \
	  echo "SKIPPED: tests for 64-bit ARM need aarch64-linux-gnu-g++ and qemu-aarch64-static (make setup-arm)"; exit 0; fi; \
	export PATH="$(CURDIR)/$(BIN):$$PATH"; set -ex; cmake --preset arm; cmake --build --preset arm -j $(JOBS); \
	ctest --preset arm -j $(JOBS); python tools/count_instructions.py build/arm

install: $(PACKAGE)  ## only make .venv and install the package into it

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Everything but the package itself: its dependencies, the test and lint tools, and what builds the native engine.
$(TOOLS): $(BIN)/python
	@echo "Installing dependencies and tools into $(VENV)"
	@$(PYTHON) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); e = p["project"]; \
	  print("\n".join(p["build-system"]["requires"] + e["dependencies"] + sum(e["optional-dependencies"].values(), []) \
	  + ["cmake", "ninja"]))' > $(VENV)/requirements.txt
	@$(PIP) install --quiet --constraint constraints.txt --requirement $(VENV)/requirements.txt
	@mkdir -p $(STAMPS) && rm -f $(STAMPS)/tools-* && touch $@

# No build isolation: the compiler's results stay in build/, so a change of one file rebuilds one file.
$(PACKAGE): $(TOOLS)
	@echo "Building and installing subbyte into $(VENV)"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --quiet --no-build-isolation --no-deps --force-reinstall .
	@mkdir -p $(STAMPS) && rm -f $(STAMPS)/package-* && touch $@

# The peers and the project side by side, in a place of their own: tests and users never see them.
$(PEERS): $(PACKAGE) benchmarks/requirements-peers.txt
	@echo "Installing the peers and subbyte into $(PEERS_VENV)"
	@test -x $(PEERS_BIN)/python || $(PYTHON) -m venv $(PEERS_VENV)
	@$(PEERS_BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
	  --requirement benchmarks/requirements-peers.txt --requirement $(VENV)/requirements.txt
	@PATH="$(CURDIR)/$(PEERS_BIN):$$PATH" $(PEERS_BIN)/python -m pip --disable-pip-version-check install --quiet \
	  --no-build-isolation --no-deps --force-reinstall .
	@touch $@

clean:  ## remove .venv and everything built
	rm -rf $(VENV) $(PEERS_VENV) build dist .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
