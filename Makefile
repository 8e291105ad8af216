# One word for one act, the same here and in .ci/run. Each target makes .venv when it is missing.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RESULTS := results

.PHONY: help venv demo check test test-real bench docs examples system-packages clean

help:
	@echo "make demo             run sweeps/quickstart.toml and print its table (minutes)"
	@echo "make test             the test suite (at most 12 minutes on 2 cores)"
	@echo "make check            lint, types, import floors"
	@echo "make test-real        everything that needs real outside parts (at most 35 minutes)"
	@echo "make bench            every benchmark, into benchmarks/results/"
	@echo "make docs             regenerate what is generated in docs/"
	@echo "make examples         quickstart's tables, figures and report into docs/examples/"
	@echo "make system-packages  Debian packages of the real parts (needs root)"
	@echo "make clean            remove .venv, caches and builds; results stay"

venv: $(READY)

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is missing: apt-get install python3.11 python3.11-venv, or make PYTHON=..."; exit 2; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { echo "error: no virtual environment could be made: apt-get install python3-venv"; exit 2; }
	@echo "Installing into $(VENV) (a few minutes the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/bitsweep run sweeps/quickstart.toml

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(READY)
	$(BIN)/python -m pytest -m "not real and not gpu" -n 2 --dist loadfile --no-loadscope-reorder

test-real: $(READY)
	$(BIN)/python -m pytest -m "real and not gpu"

bench: $(READY)
	@for script in $$(grep -l '__main__' benchmarks/*.py); do \
	  name=$$(basename $$script .py); \
	  echo "== $$name"; \
	  $(BIN)/python $$script | tee benchmarks/results/$$name.txt || exit 1; \
	done

docs: $(READY)
	$(BIN)/bitsweep schema > docs/sweep.schema.json
	$(BIN)/python -m bitsweep.store.dictionary > docs/data-dictionary.md

examples: $(READY)
	docs/examples/make.sh

system-packages:
	@missing=""; for package in postgresql chromium texlive-latex-base texlive-latex-recommended texlive-science lmodern poppler-utils gcc libc6-dev; do dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	[ -z "$$missing" ] || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; }

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find platform trainers dashboards tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
