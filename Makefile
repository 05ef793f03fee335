# Needs only Python 3.11 or newer and make; everything else goes into .venv, and into the cache of uv or pip.
BIN := .venv/bin
STAMP := .venv/.synced
TESTS ?= tests/fundamentals tests/contract tests/vectors tests/interop tests/unit tests/fuzz tests/deploy
JOBS ?= 5
PYTEST = $(BIN)/$(if $(COVERAGE),coverage run,python) -m pytest -n $(JOBS)

# An installed uv of 0.8 or newer makes .venv by itself. Without one, Python's own venv and pip fetch it into .venv.
UV = $(or $(shell uv --version 2>/dev/null | awk '{ split($$2, v, "."); if (v[1] > 0 || v[2] >= 8) print "uv" }'),$(BIN)/uv)

# Tests start Python many times. With this set, each start would compile its imports again, which takes most of its time.
unexport PYTHONDONTWRITEBYTECODE

# The tools of a release and of the docs, each in an environment of its own.
RELEASE_TOOLS = $(UV) run --quiet --isolated --locked --only-group release --python $(BIN)/python
DOCS_TOOLS = $(UV) run --quiet --isolated --locked --only-group docs --python $(BIN)/python
ACTIONLINT = github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

.DEFAULT_GOAL := help
.PHONY: help setup demo quick test scenarios uncovered lint format types layers image model properties chaos check docs \
	dist package wheels workflows release proto bench clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10
	@echo
	@echo 'Variables:'
	@echo '  TESTS=path        which tests `test` runs; default: all that have no target of their own'
	@echo '  JOBS=n            how many processes run `test` and `scenarios`; default $(JOBS); 0: in the process of pytest'
	@echo '  ARGS="..."        passed on by `demo` (--break), `bench` (--help), `chaos` (--help), `quick`, `test`,'
	@echo '                    `scenarios`, `image`, `model` and `properties` (pytest: -k word)'
	@echo '  COVERAGE=yes      makes `check` measure lines and branches as well, and fail below 97 %; slower'
	@echo '  VERSION=1.2.3     what `release` prepares'
	@echo '  PYTHON=program    the Python that `setup` makes .venv with'

setup: $(STAMP) ## Make the environment in .venv, with an installed uv or one fetched by pip

$(STAMP): pyproject.toml uv.lock
	@test "$(UV)" = uv || test -x $(BIN)/uv || $(MAKE) --no-print-directory $(BIN)/uv
	$(UV) sync --quiet --locked --inexact --all-extras $(PYTHON:%=--python %)
	touch $(STAMP)

$(BIN)/uv:
	@$(or $(PYTHON),python3) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '$(or $(PYTHON),python3) cannot make a virtual environment: it has no venv or no ensurepip.' >&2; \
		echo 'Debian, Ubuntu: apt-get install python3-venv. Or install uv: https://docs.astral.sh/uv/' >&2; exit 1; }
	$(or $(PYTHON),python3) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'

demo: $(STAMP) ## Show it at work with real checks (ARGS=--break: kill and flush parts of it while it runs)
	$(BIN)/peekaping-producer demo $(ARGS)

quick: $(STAMP) ## Run the tests that need no installed server, for the edit-run loop: half a minute on two cores
	$(BIN)/python -m pytest -n 2 -m "not long" tests/unit tests/vectors $(ARGS)

test: $(STAMP) ## Run the tests, against real servers that they start themselves (TESTS=path for some)
	$(PYTEST) $(TESTS) $(ARGS)

scenarios: $(STAMP) ## Run the tests of whole fleets under faults, of the page in a browser, and of the demo
	$(PYTEST) tests/scenarios $(ARGS)

properties: $(STAMP) ## Compare the real scripts with a model in random steps (ARGS=--examples=5000 for more)
	$(BIN)/python -m pytest -n 2 -m properties tests/properties $(ARGS)

lint: $(STAMP) ## Check style and format: ruff
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(STAMP) ## Fix style and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(STAMP) ## Check types: mypy
	$(BIN)/mypy

layers: $(STAMP) ## Check that imports go one way only: import-linter
	$(BIN)/lint-imports --no-cache

image: $(STAMP) ## Check deploy/: build and run the image in a fresh Debian (needs root, mmdebstrap); check manifests and unit
	$(UV) sync --quiet --locked --inexact --all-extras --group deploy --group image-build
	$(BIN)/python -m pytest -m image tests/deploy $(ARGS)

model: $(STAMP) ## Check the model of the schedule exhaustively (spin, gcc): two to three minutes on two cores
	$(BIN)/python -m pytest -n 2 -m model tests/model $(ARGS)

chaos: $(STAMP) ## Break a fleet for a minute, judge what a real asynq worker saw; needs Go (ARGS=--help)
	$(BIN)/python -m chaos $(ARGS)

check: $(if $(COVERAGE),uncovered) lint types layers test scenarios ## Run lint, types, layers, test and scenarios (CI adds COVERAGE=yes)
	$(if $(COVERAGE),$(BIN)/coverage combine --quiet)
	$(if $(COVERAGE),$(BIN)/coverage report)

uncovered:
	rm -f .coverage .coverage.*

docs: $(STAMP) ## Build the docs as a site in build/site; broken links and files loaded from the internet are errors
	$(BIN)/python -m docs.site.cli_page
	$(DOCS_TOOLS) python -m docs.site

dist: $(STAMP) ## Build and check what a release publishes: dist/, and its SBOM and licences in build/
	$(RELEASE_TOOLS) python -m release

package: $(STAMP) ## Install the built packages with pip, pipx and uv, and prepare a release in a clone
	UV="$(UV)" .ci/package

wheels: $(STAMP) ## Check that Python 3.11 to 3.14 find wheels of all dependencies, on x86-64 and aarch64
	UV="$(UV)" .ci/wheels

workflows: $(STAMP) ## Check GitHub's workflows: actionlint (needs Go) and zizmor
	go run $(ACTIONLINT)
	$(RELEASE_TOOLS) zizmor --offline --quiet .

release: $(STAMP) ## Prepare the release VERSION: changelog, version, dist, commit and tag; nothing is pushed
	$(RELEASE_TOOLS) python -m release "$(VERSION)"

proto: $(STAMP) ## Generate the code of asynq's messages from their .proto
	$(BIN)/python -m grpc_tools.protoc -Isrc --python_out=src --pyi_out=src src/peekaping_producer/asynq/*.proto

bench: $(STAMP) ## Measure speed, compare it with the limits and other schedulers: 10 minutes (ARGS=--help for parts, sizes and comparison)
	UV="$(UV)" $(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove the environment and all caches
	rm -rf .venv .image build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage \
		.coverage.*
