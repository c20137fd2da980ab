# The two commands: `make demo` and `make test`. Both set everything up first, and so does `make docs`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types docs setup clean

demo: setup
	$(BIN)/race-calc demo

test: setup  # PYTEST: further arguments
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(PYTEST)

lint: setup
	$(BIN)/ruff check race_calc tests benchmarks examples docs
	$(BIN)/ruff format --check race_calc tests benchmarks examples docs

types: setup
	$(BIN)/mypy

docs: $(VENV)/.ready-docs
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going --builder html docs docs/_build

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) docs/_build docs/api
