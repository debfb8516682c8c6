# Needs git, make and Python 3.11 or newer; everything else is installed into .venv with the versions of constraints.txt.
#   make study       install, pull Qwen2.5-Coder-0.5B, then run the main study, about an hour (resumes when repeated)
#   make population  the same with all eleven domains and three variants: about 3 hours on two cores (resumes when repeated)
#   make test        install, pull the embedded weights, run every test in JOBS=2 processes
#   make coverage    the tests with branch coverage of the source
#   make lint        style, types and the import contracts
#   make smoke       a two-domain study on the embedded model, and a check of its results
#   make docs        write the generated pages of docs/reference again

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
SMOKE_OUT ?= runs/smoke
JOBS ?= 2
PYTEST_FLAGS ?=

.PHONY: help study population test coverage lint smoke docs
help:
	@sed -n 's/^#   //p' Makefile

study: OUT ?= runs/embedded
study: $(VENV)/.installed
	$(BIN)/spillover models pull qwen2.5-coder-0.5b
	$(BIN)/spillover run examples/embedded.yaml --out $(OUT)

population: OUT ?= runs/population
population: $(VENV)/.installed
	$(BIN)/spillover models pull qwen2.5-coder-0.5b
	$(BIN)/spillover run examples/population.yaml --out $(OUT)

test: $(VENV)/.installed-dev
	$(BIN)/spillover models pull
	$(BIN)/python -m pytest -m "" -n $(JOBS) --dist loadfile $(PYTEST_FLAGS)

coverage: PYTEST_FLAGS += --cov --cov-report=term:skip-covered
coverage: test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

smoke: $(VENV)/.installed
	$(BIN)/spillover run examples/smoke.yaml --out $(SMOKE_OUT)
	$(BIN)/python .ci/check_results.py $(SMOKE_OUT)/results.json

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generate.py

$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed. Install it, or name it: make study PYTHON=/path/to/python3.11" >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing into $(VENV): about 2 GB on disk, some minutes."
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing into $(VENV) with the tools for development: about 2 GB on disk, some minutes."
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed
