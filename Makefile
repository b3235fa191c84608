# `make demo` and `make test` set up everything they need in .venv. They require only Python and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: demo test check bench equivalence audit generate clean

demo: $(VENV)/.demo
	$(BIN)/python -m dmask

test: check
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal
	$(BIN)/python -m compile_checks

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks --json out/bench.json --plot out/bench.svg

equivalence: $(VENV)/.dev
	$(BIN)/python -m benchmarks.forward_equivalence
	$(BIN)/python -m benchmarks.backward_equivalence
	$(BIN)/python -m benchmarks.grad_equivalence

audit: $(VENV)/.dev
	$(BIN)/python -m compile_checks

# Generates the documents that list every rule of the audit.
generate: $(VENV)/.dev
	$(BIN)/python -m compile_checks.rules --write

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "dmask requires Python 3.10 or newer; set PYTHON=..., got $$($(PYTHON) --version)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[plot]"
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	@touch $@

clean:
	rm -rf $(VENV) .nox out
