PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEVELOPERS := $(VENV)/.developers
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE := $(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-header --no-annotate --no-emit-index-url --constraint constraints.txt

.PHONY: install developers lock run test up bench bench-cycles bench-history bench-lake bench-recovery soak simulate docs \
	lint clean

install: $(STAMP)  ## what snapshots, the UI and the reports need
developers: $(DEVELOPERS)  ## and what the tests and `make lint` need

# stamps: the second `make run` starts at once, a changed pin installs again; every file is proven by its hash
$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	@$(BIN)/python deploy/install.py requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEVELOPERS): $(STAMP) requirements-dev.lock
	@$(BIN)/python deploy/install.py requirements-dev.lock
	@touch $@

lock:  ## requirements.lock and requirements-dev.lock anew, from pyproject.toml and constraints.txt
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@echo "# What users need, with the hashes of its files, for any platform. Made by: make lock" > requirements.lock.new
	printf 'pip\nsetuptools\n' | $(COMPILE) --extra alerts --extra report --extra streaming pyproject.toml - \
		>> requirements.lock.new
	@echo "# What developers need, users' packages among it; else like requirements.lock" > requirements-dev.lock.new
	printf 'pip\nsetuptools\n' | $(COMPILE) --extra dev pyproject.toml - >> requirements-dev.lock.new
	mv requirements.lock.new requirements.lock
	mv requirements-dev.lock.new requirements-dev.lock
	rm -rf $(VENV)/lock

run: install  ## take a snapshot, prove it, show it
	@$(BIN)/tradier-pipeline snapshot

# compiled once, whatever the shell says: tests, benchmarks, and all that the processes that they start import
COMPILED = env -u PYTHONDONTWRITEBYTECODE
# in memory, where there is room for it: a test makes files, waits until the disk has them, and throws them away
IN_MEMORY = $(shell df -Pk /dev/shm 2>/dev/null | awk '$$6 == "/dev/shm" && $$4 > 2000000 { print "TMPDIR=/dev/shm" }')
# the number of cores that DuckDB believes in: it starts no thread beside that of a test, while the workers have the cores
ONE_THREAD = SLURM_CPUS_ON_NODE=1

# worksteal: a worker takes a part of the tests in their order, so what a module prepares is prepared once; one worker
# more than there are cores works while others wait for what they have started
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

test: developers  ## the whole test suite
	@$(COMPILED) $(BIN)/python -m compileall -q -j 0 tradier_pipeline tradier_pipeline_tests/support
	$(COMPILED) $(IN_MEMORY) $(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

PORT ?= 3000

up: install  ## the Dagster UI and daemon; make up PORT=3001 where another program has that port
	@$(BIN)/tradier-pipeline up --port $(PORT)

bench: developers  ## measure; ratios against a bare limit of the same run
	$(COMPILED) $(BIN)/python -m tradier_pipeline_tests.benchmarks.bench

bench-cycles: developers  ## measure the cycles of a running `up`; takes half an hour
	$(COMPILED) $(BIN)/python -m tradier_pipeline_tests.benchmarks.bench_cycles

YEARS ?= 1

bench-history: developers  ## measure what a year of minute history answers, or ten: make bench-history YEARS=10
	$(COMPILED) YEARS=$(YEARS) $(BIN)/python -m tradier_pipeline_tests.benchmarks.bench_history

bench-lake: developers  ## measure a commit to a lake of 100,000 snapshots against one to an empty lake
	$(COMPILED) $(BIN)/python -m tradier_pipeline_tests.benchmarks.bench_lake

SESSIONS ?= 2

bench-recovery: developers  ## measure backup, restore and audit: make bench-recovery SESSIONS=252 is a year
	$(COMPILED) $(IN_MEMORY) SESSIONS=$(SESSIONS) $(BIN)/python -m tradier_pipeline_tests.benchmarks.bench_recovery

soak: developers  ## the long proofs, and those by examples with many more of them
	$(COMPILED) $(IN_MEMORY) $(BIN)/python -m pytest -m 'soak or hypothesis' -n 2 --hypothesis-profile soak

SEEDS ?= 1-10
MINUTES ?= 30

simulate: developers  ## minutes in which everything goes wrong; SEEDS=7 MINUTES=60 repeats one; also DEADLY=1, PLANTED=1, JUDGE=1
	$(COMPILED) $(IN_MEMORY) $(BIN)/python -m tradier_pipeline_tests.simulation.simulate --seeds $(SEEDS) --minutes $(MINUTES) \
		$(if $(DEADLY),--deadly) $(if $(PLANTED),--planted) $(if $(JUDGE),--judge)

docs: developers  ## docs/tables.md anew, from the schema
	$(BIN)/python -m tradier_pipeline_tests.support.reference

lint: developers  ## style, types, and what may import what
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV)
