# Everything you can do with this repository, one word each. `make` alone lists them.
# Needs make and Python 3.11, 3.12 or 3.13; no Java, Node, Docker or GPU.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
# The first of these that is Python 3.11-3.13 makes .venv; PYTHON=/path/to/python goes before them.
PYTHONS := $(PYTHON) python3.11 python3.12 python3.13 python3

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format lab bench proof lock wheel clean

help: ## List what you can type
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv and install what constraints.txt names; a second time it only looks
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	    exec "$$python" scripts/setup.py $(VENV); \
	  fi; \
	done; \
	echo "None of these is Python 3.11, 3.12 or 3.13: $(PYTHONS)" >&2; \
	echo "Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; \
	exit 1

demo: setup ## Set up, run the quick start on real data, say what it made and where it is
	@$(BIN)/python example_notebooks/demo.py

test: setup ## Set up and run the tests, two files at a time; a part of them with ARGS="tests/unit -k name"
	@$(BIN)/python -m pytest $(or $(ARGS),-n auto)

lint: setup ## Check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/labextension.py --check

format: setup ## Mend the style where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lab: setup ## Open JupyterLab on the quick start, in the workspace of `make demo`; another with ARGS=NOTEBOOK
	@$(BIN)/python scripts/labextension.py
	@MLP_WORKSPACE="$${MLP_WORKSPACE:-$(CURDIR)/.demo/workspace}" PATH="$(CURDIR)/$(BIN):$$PATH" \
	  $(BIN)/jupyter lab $(or $(ARGS),example_notebooks/00_quickstart.ipynb)

bench: setup ## Measure ours beside the peer and the limit, in one run; one row with ARGS=start
	@$(BIN)/python benchmarks/run.py $(ARGS)

proof: setup ## Long proofs that print what they saw: all, or one with ARGS=crashes (needs strace), pins, writers ...
	@$(BIN)/python tests/proofs.py $(ARGS)

lock: setup ## Move constraints.txt to the newest releases that pyproject.toml allows
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-annotate --upgrade \
	  --quiet --custom-compile-command "make lock" --output-file constraints.txt

wheel: setup ## Build the wheel into dist/, with the JupyterLab extension in it
	@$(BIN)/python scripts/labextension.py
	@$(BIN)/python -m build --wheel --no-isolation

clean: ## Remove .venv and everything built; workspaces with data are not touched
	rm -rf $(VENV) dist build labextension/node_modules labextension/lib jupyter_mlp/labextension .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
