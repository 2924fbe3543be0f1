# Everything here makes .venv by itself. `make` prints this help.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test picture bench lint types clean

help:  ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One marker for the whole environment: it is made again when what it is made from changes. torch comes first and
# alone: with it there, nothing asks for the build with several GB of CUDA packages.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("attnstore needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.ready  ## run the embedded model over the embedded reviews, ask, and show one
	rm -rf demo.attn
	$(BIN)/attnstore run
	$(BIN)/attnstore query demo.attn top_words_by_class -p limit=10
	$(BIN)/attnstore show demo.attn 0 --words sum

test: $(VENV)/.ready  ## run the tests, the linter and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

picture: $(VENV)/.ready  ## draw the README's picture from the demo's store (needs chromium)
	$(BIN)/attnstore show demo.attn review-072 --words sum --ignore-special --html build/heatmap.html
	chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
	    --disable-component-update --disable-sync --hide-scrollbars --window-size=900,520 \
	    --screenshot=docs/heatmap.png build/heatmap.html

bench: $(VENV)/.ready  ## time attention against plain inference, on an idle machine: about 25 minutes
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/length.py

lint: $(VENV)/.ready  ## format and lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.ready  ## check the types
	$(BIN)/mypy

clean:  ## remove the environment and what the demo wrote
	rm -rf $(VENV) demo.attn build *.egg-info
