PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test check format bench docs clean

help:  ## say what each target does
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

# torch first and alone, from the constraints: a range would let pip pick a build of several gigabytes.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unstuck needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

install: .venv/installed  ## make .venv with everything the project needs

demo: install  ## diagnose a built-in training that is stuck, and write the page
	$(BIN)/unstuck diagnose demo:saddle --html unstuck-demo.html

test: install  ## run all tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadscope

check: install  ## format, lint, types, layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses auto --dist loadscope

format: install  ## let ruff format and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install  ## compare with peers and oracles; prints ratios
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps psd-optimizer==0.1.2
	$(BIN)/python -m benchmarks

docs: install  ## run every example of the documentation
	$(BIN)/python -m pytest tests/test_documentation.py

clean:  ## remove what the other targets made
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache unstuck-demo.html
