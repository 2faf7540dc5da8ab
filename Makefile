# Two commands for a fresh machine with CPython 3.11, git and make: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test check bench docs

setup: $(STAMP)

# uv resolves and installs in seconds what pip takes minutes for; it comes from the same registry.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[all,dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/python -m iqloop.recipes.demo demo

check: setup
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest

bench: setup
	$(BIN)/iqloop bench critic
	$(BIN)/iqloop bench tools

docs: setup
	$(BIN)/python -m iqloop.recipes.help_page > docs/cli.md
