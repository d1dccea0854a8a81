# Every target sets up .venv first; nothing else has to be installed but Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
export DAGSTER_HOME ?= $(CURDIR)
export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: run test proofs corpus oldest bench setup dev lint lock

run: setup
	$(BIN)/feature-assets build

test: setup
	$(BIN)/python -m pytest -q -m "not slow"

# The proofs that take minutes.
proofs: setup
	$(BIN)/feature-assets prove
	$(BIN)/python -m pytest -q -m slow

dev: setup
	$(BIN)/dagster dev --host 127.0.0.1 --workspace workspace.yaml

lint: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

# The table of ratios; it also renews docs/performance.md. make bench BENCH=--small only tries that the bench works.
bench: setup
	$(BIN)/python -m feature_assets_bench $(BENCH)

# The oldest libraries that pyproject.toml allows give the same content hashes as the lock's.
oldest: .venv/oldest/set-up
	.venv/oldest/bin/python -W error -m feature_assets_tests.support.content_hashes

.venv/oldest/set-up: requirements-oldest.lock
	$(PYTHON) -m venv --clear .venv/oldest
	.venv/oldest/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-oldest.lock
	@touch $@

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

# Needs uv. The locks hold for every supported Python and name no index.
COMPILE := uv pip compile --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links
LIBRARIES := import tomllib; libraries = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]; \
	print(*[library for library in libraries if not library.startswith("dagster")], sep="\n")
lock:
	$(COMPILE) --extra dev pyproject.toml -o requirements.lock
	$(PYTHON) -c '$(LIBRARIES)' | $(COMPILE) --resolution lowest-direct - -o requirements-oldest.lock
