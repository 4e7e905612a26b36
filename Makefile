PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install run test up bench bench-cycles bench-history soak lint clean

install: $(STAMP)

# a stamp: the second `make run` starts at once, a changed pin installs again
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: install  ## take a snapshot, prove it, show it
	@$(BIN)/tradier-pipeline snapshot

test: install  ## the whole test suite
	$(BIN)/python -m pytest -n 2

up: install  ## the Dagster UI and daemon
	@$(BIN)/tradier-pipeline up

bench: install  ## measure; ratios against a bare limit of the same run
	$(BIN)/python -m tradier_pipeline_tests.bench

bench-cycles: install  ## measure the cycles of a running `up`; takes half an hour
	$(BIN)/python -m tradier_pipeline_tests.bench_cycles

bench-history: install  ## measure what a year of minute history answers
	$(BIN)/python -m tradier_pipeline_tests.bench_history

soak: install  ## the long proofs
	$(BIN)/python -m pytest -m soak -n 2 --hypothesis-profile soak

lint: install  ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV)
