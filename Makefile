# Two commands do everything: `make demo` and `make test`. Both make .venv when it is missing.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help install demo test test-slow test-stack check format lock audit clean

help:
	@echo 'make demo     generate a data set, train, score, promote and caption it (minutes, no server)'
	@echo 'make test     run the test suite'
	@echo 'make test-slow  the demo from end to end, and the longest kill tests'
	@echo 'make test-stack  PostgreSQL, the servers and workers of docker/compose.yaml, and faults in them'
	@echo 'make check    formatting, lint, types and import rules'
	@echo 'make install  make $(VENV) with everything the others need'
	@echo 'make format   let ruff rewrite what it can'
	@echo 'make audit    known vulnerabilities of the locked packages (needs the network)'
	@echo 'make lock     resolve pyproject.toml again into requirements.lock'
	@echo 'make clean    remove $(VENV), caches and the demo output'

install: $(STAMP)

# --no-deps: the lock is complete, so nothing that it does not name is ever installed.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) or sys.version_info >= (3, 14))' \
	  || { echo "captionmill needs Python 3.11 to 3.13; '$(PYTHON)' is $$($(PYTHON) -V). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo 'installing into $(VENV) (torch is large: some minutes and 6 GB the first time)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/captionmill demo

test: $(STAMP)
	@$(BIN)/python -m pytest -m 'not slow and not stack'

test-slow: $(STAMP)
	@$(BIN)/python -m pytest -m slow

# The servers are those of $(VENV); PostgreSQL is the system's.
POSTGRES := $(firstword $(wildcard /usr/lib/postgresql/*/bin/initdb) $(shell command -v initdb))
test-stack: $(STAMP)
ifeq ($(POSTGRES),)
	@[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || \
	  { echo 'make test-stack needs PostgreSQL: install it (apt-get install postgresql), or run this as root'; exit 1; }
	@echo 'installing PostgreSQL'
	@apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends postgresql >/dev/null
endif
	@$(BIN)/python -m pytest -n 0 -m stack tests/stack tests/operations

check: $(STAMP)
	@$(BIN)/ruff format --check flows pipeline tests
	@$(BIN)/ruff check flows pipeline tests
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(STAMP)
	@$(BIN)/ruff check --fix flows pipeline tests
	@$(BIN)/ruff format flows pipeline tests

lock:
	@$(PYTHON) -m venv .tools
	@.tools/bin/python -m pip install --quiet --disable-pip-version-check uv
	@{ echo "# Exact versions that 'make install' installs (Python 3.11 to 3.13; Linux and macOS)."; \
	   echo "# Written by 'make lock' from pyproject.toml; do not edit by hand."; \
	   .tools/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header \
	     --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock

# Outside test and check: the world changes without us.
audit:
	@$(PYTHON) -m venv .tools
	@.tools/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@.tools/bin/python .ci/audit.py

clean:
	rm -rf $(VENV) .tools captionmill-work .pytest_cache .mypy_cache .ruff_cache
