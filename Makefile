# Everything here makes the environment that it needs by itself. `make` prints this help.
PYTHON ?= python3
VENV := .venv
CONSTRAINTS := constraints.txt
INSTALL := --editable '.[dev]'
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
# A worker a core. `worksteal` keeps the cores busy to the end; each worker builds the session's small models for itself.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --dist worksteal
# Without bytecode each worker rewrites all tests' assertions anew, and each process compiles the package.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-lowest test-python test-bare test-ray pytest test-exhaustive check coverage docs picture bench bench-gpu lint types clean

help:  ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One marker for the whole environment: it is made again when what it is made from changes. torch comes first and
# alone: with it there, nothing asks for the build with several GB of CUDA packages.
$(VENV)/.ready: pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("attnstore needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) $(INSTALL)
	touch $@

demo: $(VENV)/.ready  ## run the embedded model over the embedded reviews, ask, show one, write demo.html about all
	rm -rf demo.attn
	$(BIN)/attnstore run
	$(BIN)/attnstore query demo.attn top_words_by_class -p limit=10
	$(BIN)/attnstore show demo.attn 0 --words sum
	$(BIN)/attnstore report demo.attn

test: check pytest  ## lint, check the types and run all tests: what CI runs

test-fast: $(VENV)/.ready  ## run the tests that are not slow, in about a minute
	$(PYTEST) -m "not slow"

pytest: $(VENV)/.ready  ## run all tests but the exhaustive ones
	$(PYTEST)

test-exhaustive: $(VENV)/.ready  ## run what takes many minutes: every operation failed in every way, simulations at full size
	$(PYTEST) -m exhaustive -o faulthandler_timeout=3600

test-lowest:  ## run all tests with the lowest versions that pyproject.toml allows
	$(MAKE) pytest VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt INSTALL="--editable '.[test]'"

test-python:  ## run all tests with another Python: make test-python PYTHON=python3.13
	$(MAKE) pytest VENV=.venv-$(notdir $(PYTHON)) INSTALL="--editable '.[test]'"

test-ray:  ## run workers on a Ray cluster of this machine, in an environment of its own (Ray is large)
	$(MAKE) ray VENV=.venv-ray INSTALL="--editable '.[test,ray]'"

ray: $(VENV)/.ready
	$(BIN)/python -m pytest -n 0 tests/pipeline/test_on_ray.py

test-bare:  ## install the package without any extra and run the demo's commands with it, away from the checkout
	rm -rf .venv-bare build/lib build/bdist.*
	$(MAKE) bare VENV=.venv-bare INSTALL=.

bare: $(VENV)/.ready
	rm -rf $(VENV)/demo.attn
	cd $(VENV) && $(abspath $(BIN))/attnstore run
	cd $(VENV) && $(abspath $(BIN))/attnstore query demo.attn top_words_by_class -p limit=10
	cd $(VENV) && $(abspath $(BIN))/attnstore show demo.attn 0 --words sum

check: $(VENV)/.ready  ## lint, look at the format and check the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: $(VENV)/.ready  ## run all tests and report the lines and branches that none of them reaches
	$(PYTEST) --cov --cov-report=term --cov-report=html:build/coverage

docs: $(VENV)/.docs  ## build the pages of docs/ and the reference of the Python API into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/.docs: $(VENV)/.ready
	$(PIP) --editable '.[dev,docs]'
	touch $@

picture: $(VENV)/.ready  ## draw the README's pictures from the demo's store (needs chromium)
	$(BIN)/attnstore show demo.attn review-072 --words sum --ignore-special --html build/heatmap.html
	chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
	    --disable-component-update --disable-sync --hide-scrollbars --window-size=900,520 \
	    --screenshot=docs/heatmap.png build/heatmap.html
	$(BIN)/attnstore plot demo.attn top_words_by_class -o docs/words.png

bench: $(VENV)/.ready  ## time attention against plain inference, on an idle machine: about 25 minutes
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/length.py

bench-gpu: $(VENV)/.ready  ## try and time the CUDA path on a GPU: less than ten minutes
	$(BIN)/python benchmarks/gpu.py

lint: $(VENV)/.ready  ## format and lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.ready  ## check the types
	$(BIN)/mypy

clean:  ## remove the environments and what the demo, the docs and the coverage wrote
	rm -rf .venv .venv-* demo.attn demo.html build site .coverage *.egg-info
