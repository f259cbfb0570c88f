PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCH_STAMP := .venv/.installed-bench

.PHONY: help install demo test test-all check bench docs app clean clean-cache

help: ## show the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,app,docs,dev]'
	@touch $(STAMP)

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $(BENCH_STAMP)

install: $(STAMP) ## make .venv with everything in it

demo: $(STAMP) ## train on the embedded digits, evaluate, write pictures
	rm -rf runs/demo
	$(BIN)/softperm train jigsaw --preset digits-2x2 --out runs/demo

test: $(STAMP) ## run the tests but the slow ones
	$(BIN)/pytest -q

test-all: $(STAMP) ## run all tests
	$(BIN)/pytest -q -m ''

check: $(STAMP) ## lint, format and type check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BENCH_STAMP) ## run the benchmarks, write docs/performance.md
	$(BIN)/python benchmarks/operators.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/train_epoch.py

docs: $(STAMP) ## build the documentation in site/
	$(BIN)/mkdocs build --strict --quiet

app: $(STAMP) ## serve the page to play with
	$(BIN)/python -m softperm.program.app

clean: ## remove what the other targets made
	rm -rf .venv site runs dist .mypy_cache .ruff_cache .pytest_cache

clean-cache: ## remove what Numba has compiled
	find src -name __pycache__ -type d -prune -exec rm -rf {} +
