# make audit: set up, then audit the bundled example. make test: set up, then run every test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STUDY  ?= examples/assistant
SEEDS  ?= 5
SHARED ?= $(abspath $(or $(DISCRETION_SHARED),../shared))
export DISCRETION_SHARED := $(SHARED)
# Two tests run side by side: neither shall take all cores.
ALONE  := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 POLARS_MAX_THREADS=1
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: audit test coverage check format benchmarks reproduce lab clean help

help:        ## list the targets
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

audit: $(VENV)/core.ready  ## set up, audit the bundled example, write its report (STUDY=... for another)
	@$(BIN)/discretion audit $(STUDY) --report --cases 40

test: $(VENV)/dev.ready  ## set up and run every test
	@$(ALONE) $(BIN)/python -m pytest -n 2 --dist loadfile

coverage: $(VENV)/dev.ready  ## every test, and the lines that none of them reaches (half as long again)
	@$(ALONE) $(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered

check: $(VENV)/dev.ready  ## style, types and the fast tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(ALONE) $(BIN)/python -m pytest -n 2 -q -m "not slow"

format: $(VENV)/dev.ready  ## put the code into its form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

reproduce: $(VENV)/core.ready  ## the published HH study beside the published figures
	@$(BIN)/discretion reproduce hh --data $(SHARED)/data

lab: $(VENV)/dev.ready  ## small models in worlds whose truth is known: what is lost of discretion, and what keeps it (SEEDS=5)
	@$(BIN)/discretion lab --out lab --seeds $(SEEDS)

benchmarks: $(VENV)/dev.ready  ## speed and memory, beside the references
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:       ## remove what was set up and written
	rm -rf $(VENV) audits .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "discretion needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'

$(VENV)/core.ready: $(VENV)/bin/python pyproject.toml
	@echo "installing discretion …"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/dev.ready: $(VENV)/core.ready pyproject.toml
	@echo "installing what the tests need …"
	@$(PIP) install --editable '.[hf,inspect,judge,local,view]' --group dev
	@touch $@
