# `make demo` and `make test` work on a fresh machine: the first of them makes .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint docs clean

demo: .venv/installed
	$(BIN)/ftbc fit --config configs/digits_cnn.yaml

test: .venv/installed
	$(BIN)/python -m pytest -n 2

# sinabs and snnTorch read what is exported: they are installed for this alone
test-slow: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[importers]'
	$(BIN)/python -m pytest -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pages of docs/ and of docstrings, into build/site; a broken link is an error
docs: .venv/installed
	$(BIN)/mkdocs build --strict --quiet

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,docs,export,notebooks]'
	touch $@

clean:
	rm -rf .venv runs
