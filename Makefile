PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
STAMP := .venv/.installed
BENCH_STAMP := .venv/.installed-bench
INSTALL := $(BIN)/python -m pip install --quiet --editable
BROWSER := for name in chromium chromium-browser google-chrome; do command -v $$name && break; done
BUILT_FROM := pyproject.toml CMakeLists.txt $(CONSTRAINTS) $(wildcard src/softperm/kernels/cpu/src/*)

# For what is installed and for what it is built with, which pip before 25.3 takes from the first.
export PIP_CONSTRAINT := $(CONSTRAINTS)
export PIP_BUILD_CONSTRAINT := $(CONSTRAINTS)
export CMAKE_BUILD_PARALLEL_LEVEL ?= 3
SPREAD ?= -n auto --dist worksteal # the tests, over all cores

.PHONY: help install demo test test-all test-app check bench docs app clean

help: ## show the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): $(BUILT_FROM)
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[train,app,docs,dev]'
	@$(BIN)/python -c 'from softperm.kernels import cpu; cpu.is_available()' # warns without kernels
	@touch $(STAMP)

$(BENCH_STAMP): $(STAMP)
	$(INSTALL) '.[bench]'
	@touch $(BENCH_STAMP)

install: $(STAMP) ## make .venv with everything in it

demo: $(STAMP) ## restore digits with trained networks, then train one
	rm -rf runs/demo
	$(BIN)/python -m softperm.program.demo --out runs/demo

test: $(STAMP) ## run the tests but the slow ones
	$(BIN)/pytest -q $(SPREAD)

test-all: $(STAMP) ## run all tests
	$(BIN)/pytest -q $(SPREAD) -m ''

test-app: $(STAMP) ## test the page in Chromium, which root installs with apt where it is missing
	@if ! $(BROWSER) && command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; \
	fi || echo "chromium could not be installed: the tests of the page are skipped"
	$(BIN)/pytest -q -rs -m browser tests/app

check: $(STAMP) ## lint, format and type check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BENCH_STAMP) ## run the benchmarks, write docs/performance.md
	$(BIN)/python benchmarks/operators.py
	$(BIN)/python benchmarks/ragged.py
	$(BIN)/python benchmarks/shapes.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/variants.py
	$(BIN)/python benchmarks/first_call.py
	$(BIN)/python benchmarks/train_epoch.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/many_images.py

docs: $(STAMP) ## build the documentation in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

app: $(STAMP) ## serve the page to play with
	$(BIN)/softperm app

clean: ## remove what the other targets made
	rm -rf .venv site runs dist .mypy_cache .ruff_cache .pytest_cache
