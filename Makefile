# Needs only Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.synced
TESTS ?= tests
JOBS ?= 4

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format types layers check proto bench clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(STAMP) ## Make the environment in .venv

$(STAMP): pyproject.toml uv.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"
	$(BIN)/uv sync --quiet --locked --inexact --all-extras
	touch $(STAMP)

demo: $(STAMP) ## Show it at work with real checks (ARGS=--break: kill and flush parts of it meanwhile)
	$(BIN)/peekaping-producer demo $(ARGS)

test: $(STAMP) ## Run the tests against real servers that they start themselves (TESTS=path for some)
	$(BIN)/python -m pytest -n $(JOBS) --maxschedchunk=1 $(TESTS)

lint: $(STAMP) ## Check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(STAMP) ## Mend style and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(STAMP) ## Check types
	$(BIN)/mypy

layers: $(STAMP) ## Check that imports go one way only
	$(BIN)/lint-imports --no-cache

check: lint types layers test ## All of the above

proto: $(STAMP) ## Generate the code of asynq's messages from their .proto
	$(BIN)/python -m grpc_tools.protoc -Isrc --python_out=src --pyi_out=src src/peekaping_producer/asynq/*.proto

bench: $(STAMP) ## Measure speed beside the limits (ARGS=--quick for a short one)
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove the environment and all caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
