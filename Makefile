# The commands of this project; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_EXTRAS := whisper,piper
TEST_EXTRAS := whisper,piper,postgres,test

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench format clean setup setup-test

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: setup  ## set everything up and run the hotline with a PBX of its own; Ctrl-C stops all of it
	@exec $(BIN)/hotline serve --local

demo: setup  ## the story: a robot calls, is understood, and reaches a (robot) person
	@$(BIN)/hotline demo

test: setup-test  ## set everything up and run every test, the live ones too
	$(BIN)/pytest --ignore=tests/live -n 2 --dist loadfile --junitxml=build/tests.xml
	$(BIN)/pytest tests/live --junitxml=build/tests-live.xml

check: setup-test  ## lint, types, import rules and unit tests, in under two minutes
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest tests/unit tests/flows -m "not live and not models" -n 2

bench: setup-test  ## measure; ONLY=name for one; prints a table and writes build/bench.json
	$(BIN)/python -m tests.bench $(ONLY)

format: setup-test  ## put every file into the one format
	$(BIN)/ruff format -q .
	$(BIN)/ruff check -q --fix .

clean:  ## forget the database, the local PBX and what was built; keeps the caches outside
	[ ! -x $(BIN)/hotline ] || $(BIN)/hotline pbx down
	rm -rf build var .mypy_cache .ruff_cache .pytest_cache .import_linter_cache $(VENV)

setup: $(VENV)/.run
	@deploy/install-packages run

setup-test: $(VENV)/.test
	@deploy/install-packages run test

$(VENV)/bin/python:
	@deploy/install-packages run
	@echo "==> Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: setup.py $(VENV)/bin/python
	@echo "==> Installing the hotline and its libraries (about a minute)"
	@$(BIN)/pip install --disable-pip-version-check -q --progress-bar on -e '.[$(RUN_EXTRAS)]'
	@touch $@

$(VENV)/.test: setup.py $(VENV)/bin/python
	@echo "==> Installing the hotline, its libraries and the test tools (about a minute)"
	@$(BIN)/pip install --disable-pip-version-check -q --progress-bar on -e '.[$(TEST_EXTRAS)]'
	@touch $@ $(VENV)/.run
