# `make demo` and `make test` work on a fresh machine: the first of them makes .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo gallery test coverage test-slow test-processes test-oldest lint docs release-check clean

demo: .venv/installed
	$(BIN)/ftbc fit --config configs/digits_resnet20.yaml

# networks that this machine trains, each a folder as `ftbc push` writes it, into build/gallery;
# with DATA=FOLDER also one on your CIFAR-10, which takes 200 epochs
gallery: .venv/installed
	$(BIN)/python gallery/make_networks.py $(if $(DATA),--cifar10 $(DATA))

# two workers of one thread each: more threads than cores take half as long again. A worker begins
# with one half of the tests, so that what a file's tests share is mostly made once
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# the same run with branches counted, which takes a third longer; fails below the floor in
# pyproject.toml
coverage: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --cov

# sinabs and snnTorch read what is exported: they are installed for this alone
test-slow: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[importers]'
	$(BIN)/python -m pytest -m slow

# a file's tests share what they fit: they stay in one worker
test-processes: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m processes -n 2 --dist loadfile

# The default suite with the oldest versions that pyproject.toml allows; several GB on first use.
test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest

.venv-oldest/installed: pyproject.toml tests/oldest.py
	$(PYTHON) -m venv .venv-oldest
	$(PYTHON) tests/oldest.py pyproject.toml > .venv-oldest/oldest.txt
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check \
	  -c .venv-oldest/oldest.txt -e '.[dev,notebooks]'
	touch $@

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pages of docs/ and of docstrings, into build/site; a broken link is an error
docs: .venv/installed
	$(BIN)/mkdocs build --strict --quiet

# sdist and wheel, checked, and the main job from the wheel alone; minutes and 6 GB for a while
release-check:
	PYTHON=$(PYTHON) .ci/release-check

# not compiled beforehand: most of what comes along is never imported
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -e '.[dashboard,dev,docs,export,hub,notebooks,tensorboard,timm]'
	touch $@

clean:
	rm -rf .venv .venv-oldest build dist runs .coverage
