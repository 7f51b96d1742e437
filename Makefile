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
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[library,elasticsearch-server,metrics,flask,celery,tracing,privacy,test,lint,bench]'
	@touch $@

# What an editable install maps, laid out for type checkers, which do not see it (docs/decisions/0018-one-name.md).
.links/actionbus: $(wildcard actionbus/*)
	@mkdir -p $@
	@ln -sfn $(addprefix ../../,core projections adapters replay $(filter-out %/__pycache__,$(wildcard actionbus/*))) $@/
	@touch $@

run: $(STAMP)  ## Import the Unicode emoji set, project it into Elasticsearch, search it
	@$(BIN)/actionbus demo

test: $(STAMP)  ## Run all tests, on SQLite, a real PostgreSQL, Elasticsearch and Redis
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal

test-fast: $(STAMP)  ## Run what needs no server, on SQLite: a minute
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not slow" -k "not postgresql and not elasticsearch" \
		tests/core tests/test_rooms.py tests/projections/test_declaration.py

torture: $(STAMP)  ## Run the long campaigns: hundreds of kills, 200,000 records
	ACTIONBUS_TORTURE=1 $(BIN)/python -m pytest tests/test_structure.py tests/core/test_crashes.py tests/core/test_order.py \
		tests/core/test_interruptions.py tests/core/test_hostile_defaults.py tests/core/test_secrets_everywhere.py tests/core/test_arg.py \
		tests/core/history/test_race.py tests/core/history/test_three_deploys.py \
		tests/core/history/test_hard_application.py tests/core/history/test_every_type.py tests/projections/test_first_start.py \
		tests/projections/test_kills.py tests/projections/test_rebuild.py \
		tests/adapters/test_celery.py tests/adapters/test_serving.py \
		tests/replay/test_properties.py tests/replay/test_concurrency.py tests/replay/test_divergence.py --timeout 3600

bench: $(STAMP)  ## Measure speed, as ratios
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.projecting --memory 1000000
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.replaying

lint: $(STAMP) .links/actionbus  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Put the sources into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what was made
	rm -rf $(VENV) .links var build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
