# Each target works from a fresh checkout; the environments are made when first needed.
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3; do command -v $$each && break; done)
VENV := .venv
BIN := $(VENV)/bin
MARKET := panels/synthetic
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help install quickstart test test-faults test-gpu test-slow check format bench docs clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed (found: $(PYTHON)). Mend: make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || $(PYTHON) -m virtualenv -q $(VENV) 2>/dev/null \
	  || { rm -rf $(VENV); echo "no virtual environment can be made. Mend: apt-get install python3-venv"; exit 2; }

$(VENV)/.user: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing (a few minutes the first time)"
	@$(BIN)/pip install -q -c constraints.txt -e '.[report]'
	@touch $@

$(VENV)/.dev: $(VENV)/.user
	@$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

install: $(VENV)/.user ## Make the environment

$(MARKET)/panel/manifest.json: | $(VENV)/.user
	@$(BIN)/atft data synth $(MARKET)

quickstart: $(VENV)/.user $(MARKET)/panel/manifest.json ## Synthetic market, train, evaluate, report: about five minutes
	@$(BIN)/atft train quickstart --data $(MARKET)/panel

test: $(VENV)/.dev ## The test suite
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "ray and not faults" tests

test-faults: $(VENV)/.dev ## Kills workers, launchers and heads of a real Ray
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m faults tests

test-gpu: $(VENV)/.dev ## The checks that need a GPU
	@$(BIN)/python -m pytest -m gpu tests

test-slow: $(VENV)/.dev ## The checks that take long: seeds, planted parts
	@$(BIN)/python -m pytest -m slow tests

check: $(VENV)/.dev ## Format, lint, types, imports, generated files
	@$(BIN)/ruff format --check -q .
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/unit/test_architecture.py
	@$(BIN)/python -m atft.data.features | diff -u docs/guide/features.md - \
	  || { echo "docs/guide/features.md differs from the code. Mend: make docs"; exit 1; }

format: $(VENV)/.dev ## Format the code
	@$(BIN)/ruff format -q .
	@$(BIN)/ruff check -q --fix .

bench: $(VENV)/.dev ## Benchmarks against peers and bounds; wants a machine that does nothing else
	@$(BIN)/python -m benchmarks all

docs: $(VENV)/.dev ## Regenerate what the docs take from the code
	@$(BIN)/python -m atft.data.features > docs/guide/features.md

clean: ## Remove environment and caches; runs and panels stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
