# `make` prints this help; everything is set up on first use. Needs Python 3.11 or later, and a network to fetch the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test test-fast torture bench lint format clean

help:  ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; say which with PYTHON=python3.12")'
	@echo "Setting up $(VENV): a minute or two, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $$([ -t 1 ] || echo --quiet) --disable-pip-version-check --editable '.[library,elasticsearch-server,metrics,flask,celery,tracing,privacy,test,lint,bench]'
	@touch $@

# What an editable install maps, laid out for type checkers, which do not see it (docs/decisions/0018-one-name.md).
.links/actionbus: $(wildcard actionbus/*)
	@mkdir -p $@
	@ln -sfn $(addprefix ../../,core projections adapters replay $(filter-out %/__pycache__,$(wildcard actionbus/*))) $@/
	@touch $@

run: $(STAMP)  ## Import the Unicode emoji set, search it, look into its history; KEEP=1 leaves Elasticsearch running
	@$(BIN)/actionbus demo $(if $(KEEP),--keep)

test: $(STAMP)  ## Run all tests, on SQLite, a real PostgreSQL, Elasticsearch and Redis; tell what they do not run
	$(BIN)/python -m pytest -p tests.line_coverage --floor 90 --numprocesses 4 --dist worksteal

test-fast: $(STAMP)  ## Run what needs no server, on SQLite: a minute
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not slow and not server" \
		tests/core tests/test_rooms.py tests/projections/test_declaration.py

torture: $(STAMP)  ## Run the long campaigns: hundreds of kills, 200,000 records
	ACTIONBUS_TORTURE=1 $(BIN)/python -m pytest --timeout 3600 $$(grep -rl TORTURE --include='test_*.py' tests)

bench: $(STAMP)  ## Measure speed, as ratios
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.projecting --memory 1000000
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.replaying
	$(BIN)/python -m benchmarks.queueing

lint: $(STAMP) .links/actionbus  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Put the sources into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what was made
	rm -rf $(VENV) .links var build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
