# Every target sets up .venv first when it is missing, or when the dependencies changed.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# The first Python from 3.11 on; `make PYTHON=...` chooses another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PROFILE ?= cpu
ARGS ?=

.PHONY: help setup run test lint notebooks results site environment lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## create .venv and install everything

$(STAMP): pyproject.toml requirements.lock
	@if [ -z "$(PYTHON)" ]; then echo "error: Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@$(PYTHON) -m pgpt_lib setup

run: $(STAMP) ## run the notebook series of PROFILE (default cpu), or go on with it
	@$(PY) -m pgpt_lib run --profile $(PROFILE) $(ARGS)

test: $(STAMP) ## run the tests
	@$(PY) -m pgpt_lib test -- $(ARGS)

lint: $(STAMP) ## ruff, mypy, generated files
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(PY) tools/environment.py --check
	@$(PY) -m pgpt_lib.notebook_sources --check
	@$(PY) -m pgpt_lib.by_profile --check

notebooks: $(STAMP) ## make notebooks/*.ipynb from notebooks/src/*.py
	@$(PY) -m pgpt_lib.notebook_sources

results: $(STAMP) ## write the table of all profiles in docs/results.md from reports/
	@$(PY) -m pgpt_lib.by_profile

site: $(STAMP) ## build the series, results, course and API as pages
	@$(PY) -m pgpt_lib site $(ARGS)

environment: $(STAMP) ## make environment.yml from pyproject.toml
	@$(PY) tools/environment.py

lock: $(STAMP) ## pin the releases that are installed
	@( head -n 1 requirements.lock; $(PY) -m pip freeze --exclude-editable | sed 's/+cpu//' ) > requirements.lock.tmp
	@mv requirements.lock.tmp requirements.lock

clean: ## remove .venv and caches; reports stay
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
