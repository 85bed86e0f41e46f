# Each target is one line of hatch; `make` alone lists them.
# A fresh machine needs Python 3.11 or newer and make: everything else comes from the package index.

PYTHON ?= python3
HATCH_VERSION := 1.18.2
UV_VERSION := 0.13.9
BOOTSTRAP := .hatch/bootstrap
HATCH := $(BOOTSTRAP)/bin/hatch
export HATCH_DATA_DIR := $(CURDIR)/.hatch
export UV_CONSTRAINT := $(CURDIR)/tools/constraints.txt
export PATH := $(CURDIR)/$(BOOTSTRAP)/bin:$(PATH)
# Without bytecode on disk each process that a test starts would compile its imports again.
unexport PYTHONDONTWRITEBYTECODE
unexport VIRTUAL_ENV

DOCS ?= samples/knowledge-base
SERVE ?= 1
PORT ?= 8080

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-iso test-together test-integration test-browser test-wheels \
	lint format types imports cov docs bench figures soak dist lock clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  %-18s %s\n", $$1, $$2}'

$(HATCH):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(BOOTSTRAP)
	$(BOOTSTRAP)/bin/python -m pip install --quiet --disable-pip-version-check hatch==$(HATCH_VERSION) uv==$(UV_VERSION)

setup: $(HATCH) ## Make the environment for working on the code, with every package editable
	$(HATCH) run ready

demo: $(HATCH) ## Ingest the sample knowledge base, ask three questions, open the page (DOCS=folder, SERVE=0, PORT=8080)
	$(HATCH) run demo "$(DOCS)" --serve "$(SERVE)" --port "$(PORT)"

test: lint types imports test-iso test-together test-integration test-wheels ## All checks and all tests

# Core alone with its extras is left to `make soak`: `light` runs it alone, `test-together` with them.
test-iso: $(HATCH) ## Each package's tests with nothing but core and that package installed
	$(HATCH) run light:test
	$(HATCH) run gateway:test
	$(HATCH) run iso:test

test-together: $(HATCH) ## Each package's tests with every package installed
	$(HATCH) run test

test-integration: $(HATCH) ## What shows only when the components run together, on real servers
	$(HATCH) run integration

test-browser: $(HATCH) ## The page in a real Chromium; installs it with apt-get when it is absent
	tools/install_program.sh chromium
	$(HATCH) run browser:test

test-wheels: dist ## Each wheel alone in a cold environment: contents, import, entry points
	$(HATCH) run check:wheels

lint: $(HATCH) ## Format and lint
	$(HATCH) run check:lint

format: $(HATCH) ## Rewrite the code in the one format, and mend what can be mended safely
	$(HATCH) run check:format

types: $(HATCH) ## mypy --strict, package by package
	$(HATCH) run check:types

imports: $(HATCH) ## Import contracts and the rules of the house
	$(HATCH) run check:imports

cov: $(HATCH) ## Tests with coverage by line and branch
	$(HATCH) run cov

docs: $(HATCH) ## Build the guides; a warning is an error
	$(HATCH) run docs:build

bench: $(HATCH) ## Ingestion and query figures, beside the bare database
	$(HATCH) run bench

figures: $(HATCH) ## Figures with what is asked of them, beside their peers (WHAT=core, gateway or all)
	$(HATCH) run figures $(WHAT)

soak: $(HATCH) ## The long randomised runs: isolation, cancellation, restarts
	$(HATCH) run soak
	$(HATCH) run core:test

dist: $(HATCH) ## Build the sdist and the wheel of every package into dist/
	rm -rf dist
	$(HATCH) build --all

lock: $(HATCH) ## Resolve every dependency again into tools/constraints.txt
	$(HATCH) run check:lock

clean: ## Remove environments, builds and caches
	rm -rf .hatch dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache docs/_build
