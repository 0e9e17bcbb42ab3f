# Each target makes .venv first where it is missing or older than pyproject.toml.
# Needed: make and Python 3.11 or newer (`make PYTHON=python3.12 test` picks another one).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two files at a time: many tests wait for processes, and others compute.
PYTEST ?= $(BIN)/python -m pytest -n 2 --dist loadfile
MINUTES ?= 60

.DEFAULT_GOAL := help
.PHONY: help demo test check bench bench-minute bench-messages bench-peers bench-dashboard screenshots bench-simulator compare-concurrency bench-timers bench-memory bench-index soak toolbox coverage coverage-report races machine rules explorer acceptance chaos fuzz fuzz-guided docs clean newcomer

help:
	@echo "make demo        decide a thousand credit checks with racing workers"
	@echo "make test        run the tests"
	@echo "make check       lint, formatting, types and import rules"
	@echo "make bench       measure throughput and latency beside the same written by hand; bench-minute in a minute"
	@echo "make bench-messages   measure what a message costs, in workers and store"
	@echo "make bench-peers   run the credit check by other tools too, for 15 minutes, and write docs/performance.md"
	@echo "make bench-dashboard   measure its pages with a million sagas, and what it costs to have it open; docs/dashboard.md"
	@echo "make screenshots   take the pictures of the dashboard in docs/images, with the Chromium on PATH"
	@echo "make bench-simulator   measure how fast every schedule is looked at"
	@echo "make compare-concurrency   compare merged, serial and exclusive sagas, and write docs/concurrency.md"
	@echo "make bench-timers   measure a million pending timers, and write docs/capacity.md"
	@echo "make bench-memory   measure what a saga, a timer and a document take, and write docs/capacity.md"
	@echo "make bench-index    measure lists of a million sagas, and write docs/operations.md"
	@echo "make soak        run for an hour (MINUTES=60) at full speed with kills, and write docs/soak.md"
	@echo "make coverage    run the tests, report branch coverage, ask for 95%"
	@echo "make toolbox     transfers, imports and a lock at full size, with workers killed and stopped"
	@echo "make races       decide 20,000 checks six times, with workers killed in three of them"
	@echo "make machine     compare the stores for as long as it takes"
	@echo "make rules       model-check the commit rules and the ready-made sagas, the largest configurations too"
	@echo "make explorer    compare the explorer with a walk through every schedule, for 2,000 sagas"
	@echo "make acceptance  run the demo on each of the three transports"
	@echo "make newcomer    do what a newcomer does, from a built wheel and an empty folder, and time it"
	@echo "make chaos       make every fault of the table at full size, and write docs/reliability.md; ROW=4 for one of them"
	@echo "make fuzz        put a million fuzzed envelopes through a worker, and damage every stored field"
	@echo "make fuzz-guided   let atheris look for bytes that are not survived (Linux, x86-64)"
	@echo "make docs        build the documentation into docs/_build/html, without warnings"
	@echo "make clean       remove what the other targets made"

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "sagabus needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." >&2; \
		echo "Name another one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python -m examples.credit_check

test: $(STAMP)
	$(PYTEST)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m benchmarks.peers --peer sagabus --peer batch --peer watch --runs 7 --seconds 5 --checks 60 --width 1000

bench-minute: $(STAMP)
	$(BIN)/python -m benchmarks.peers --peer sagabus --peer batch --runs 2 --seconds 4 --checks 40 --width 1000

bench-messages: $(STAMP)
	$(BIN)/python -m benchmarks

bench-peers: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[peers,bench]'
	$(BIN)/python -m benchmarks.peers --alone --seconds 6 --checks 100 --write docs

bench-dashboard: $(STAMP)
	$(BIN)/python -m benchmarks.dashboard --write docs

screenshots: $(STAMP)
	mkdir -p docs/images
	SAGABUS_SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/browser

bench-simulator: $(STAMP)
	$(BIN)/python -m benchmarks.simulator

compare-concurrency: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m benchmarks.concurrency --write docs

bench-timers: $(STAMP)
	$(BIN)/python -m benchmarks.timers --write docs

bench-memory: $(STAMP)
	$(BIN)/python -m benchmarks.memory --write docs

bench-index: $(STAMP)
	$(BIN)/python -m benchmarks.index --write docs

soak: $(STAMP)
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) --write docs

coverage: $(STAMP)
	$(BIN)/coverage erase
	$(MAKE) test PYTEST='$(BIN)/coverage run -m pytest'
	$(MAKE) coverage-report

coverage-report: $(STAMP)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=95

toolbox: $(STAMP)
	$(BIN)/python -m examples.transfer
	$(BIN)/python -m examples.import_once
	$(BIN)/python -m examples.lock
	$(BIN)/python -m examples.optimistic_update

races: $(STAMP)
	for seed in 1 2 3; do for pause in 0 1; do \
		$(BIN)/python -m examples.credit_check --applicants 20000 --processes 4 --seed $$seed --kill-every $$pause || exit 1; \
	done; done

machine: $(STAMP)
	HYPOTHESIS_PROFILE=long $(PYTEST) --timeout=0 tests/contract/test_store_machine.py tests/contract/test_document_machine.py

rules: $(STAMP)
	SAGABUS_RULES=whole $(PYTEST) --timeout=0 tests/simulation/test_commit_rules_model.py tests/simulation/sagas

explorer: $(STAMP)
	SAGABUS_GENERATED=2000 $(PYTEST) --timeout=0 tests/simulation/test_explorer.py

acceptance: $(STAMP)
	.ci/acceptance $(BIN)/python

newcomer: $(STAMP)
	.ci/newcomer $(BIN)/python

chaos: $(STAMP)
	$(BIN)/python -m tests.chaos $(if $(ROW),--row $(ROW)) --seeds 1,2,3 --write docs/reliability.md

fuzz: $(STAMP)
	SAGABUS_FUZZ=whole $(PYTEST) --timeout=0 tests/fuzz/test_damage.py
	$(BIN)/python -m tests.fuzz --messages $(or $(N),1000000) --write docs/fuzzing.md

fuzz-guided: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	for target in envelopes intake stored; do \
		$(BIN)/python -m tests.fuzz.targets $$target --seconds $(or $(SECONDS),60) || exit 1; \
	done

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going --quiet -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

clean:
	rm -rf $(VENV) build docs/_build dist htmlcov .coverage .coverage.* decisions.csv
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
