# Every target sets itself up: the first one to run on a fresh clone makes .venv and installs the project into it.
# Another interpreter (3.11 or newer, for the pinned versions): make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types docs bench gpu clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Make .venv and install the project with its development tools

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(READY)  ## Pre-train AimCLR on synthetic actions; numbers on screen, pictures in demo/
	$(BIN)/python examples/demo.py --out demo

# One thread unless told otherwise: the tests' tensors are small, and threads that wait for each other cost more than they give.
test: export OMP_NUM_THREADS ?= 1
test: $(READY)  ## Run all tests and docstring examples on all cores, with branch coverage
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal --cov=skelcontrast --cov-branch --cov-report=term

lint: $(READY)  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## Check types, strictly
	$(BIN)/mypy

docs: $(READY)  ## Build the documentation into docs/_build/html; a warning is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(READY)  ## Measure speed, each operation after its own tests have passed
	$(BIN)/python -m benchmarks

gpu: $(READY)  ## On a machine with CUDA: the tests that need it, then the benchmarks into benchmarks/results/
	@$(BIN)/python -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "make gpu: torch finds no CUDA device on this machine, so nothing was run")'
	$(BIN)/python -m pytest -m gpu -n auto --maxprocesses 8 || [ $$? -eq 5 ]  # 5: no test asks for a GPU
	$(BIN)/python -m benchmarks --gate gpu --out benchmarks/results
	$(BIN)/python -m benchmarks.report

clean:  ## Remove what the other targets made, .venv included
	rm -rf $(VENV) demo docs/_build build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
