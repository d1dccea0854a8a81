# Every target sets up .venv first; nothing else has to be installed but Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
export DAGSTER_HOME ?= $(CURDIR)
export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: run test setup dev lint lock corpus

run: setup
	$(BIN)/feature-assets build

test: setup
	$(BIN)/python -m pytest -q

dev: setup
	$(BIN)/dagster dev --host 127.0.0.1 --workspace workspace.yaml

lint: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

setup: .venv/set-up

.venv/set-up: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "feature_assets needs Python 3.11 or newer; say which with make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Injects every leak of the corpus (minutes) and writes what became of them for the report and the README.
corpus: setup
	$(BIN)/python -m feature_assets_tests.leakage.corpus --write

# Needs uv. The lock holds for every supported Python and names no index.
lock:
	uv pip compile --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --extra dev pyproject.toml -o requirements.lock
