# make run: set up, raise the pocket herd, write the report.  make test: set up, pass the tests.  make test-all: the slow proofs too.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECIPE ?= pocket
STAMP := $(VENV)/.installed

.PHONY: run test test-all lint clean

run: $(STAMP)
	$(BIN)/herd run $(RECIPE)

test: $(STAMP) lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile

test-all: $(STAMP) lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m ""

lint: $(STAMP)
	$(BIN)/ruff check herd tests bench
	$(BIN)/ruff format --check herd tests bench
	$(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch -e '.[test,tensorboard]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs
