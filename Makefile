PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_OPTIONS := --quiet --disable-pip-version-check --no-deps

.PHONY: install lock run test up bench bench-cycles bench-history soak lint clean

install: $(STAMP)

# a stamp: the second `make run` starts at once, a changed pin installs again; every file is proven by its hash
$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_OPTIONS) --require-hashes --requirement requirements.lock
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install $(PIP_OPTIONS) --no-build-isolation --editable .
	@touch $@

lock:  ## requirements.lock anew, from pyproject.toml and constraints.txt
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@echo "# Every package with the hashes of its files, for any platform. Made by: make lock" > requirements.lock.new
	printf 'pip\nsetuptools\n' | $(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --no-strip-extras --no-header --no-annotate --no-emit-index-url \
		--constraint constraints.txt --extra dev pyproject.toml - >> requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf $(VENV)/lock

run: install  ## take a snapshot, prove it, show it
	@$(BIN)/tradier-pipeline snapshot

test: install  ## the whole test suite
	$(BIN)/python -m pytest -n 2

up: install  ## the Dagster UI and daemon
	@$(BIN)/tradier-pipeline up

bench: install  ## measure; ratios against a bare limit of the same run
	$(BIN)/python -m tradier_pipeline_tests.benchmarks.bench

bench-cycles: install  ## measure the cycles of a running `up`; takes half an hour
	$(BIN)/python -m tradier_pipeline_tests.benchmarks.bench_cycles

bench-history: install  ## measure what a year of minute history answers
	$(BIN)/python -m tradier_pipeline_tests.benchmarks.bench_history

soak: install  ## the long proofs
	$(BIN)/python -m pytest -m soak -n 2 --hypothesis-profile soak

lint: install  ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV)
