# Everything needs only Python 3.11+ and make; `make demo` and `make test` do their own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FUZZ := .venv-fuzz
SOURCES := actors api config daemon simulator storage supervisor whatsapp
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo torture test schedules check bench fuzz lock proto manuals interop clean

help: ## show the commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "zapvisor needs Python 3.11 or newer; say make PYTHON=python3.12 (or another)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip --disable-pip-version-check -q install --require-hashes -r requirements.lock
	$(BIN)/python -m pip --disable-pip-version-check -q install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(BIN)/python -m pip --disable-pip-version-check -q install --require-hashes -r requirements-dev.lock
	@touch $@

tests/%/node_modules/.installed: tests/%/package-lock.json
	cd tests/$* && npm ci --omit=peer --ignore-scripts --no-fund --no-audit
	@touch $@

interop: ## fetch the pinned third-party programs of the tests, where node is present
	@if command -v node >/dev/null && command -v npm >/dev/null; \
		then $(MAKE) --no-print-directory $(patsubst %,tests/%/node_modules/.installed,interop browser); \
		else echo "node is not installed: the tests with real clients and browsers will be skipped"; fi

demo: $(VENV)/.installed ## run the demo: ARGS="--for 20s --json"
	@$(BIN)/zapvisor demo $(ARGS)

torture: $(VENV)/.installed ## die at every crash point, then break all for 10 minutes: ARGS="--seed 7"
	@$(BIN)/zapvisor torture --walk
	@$(BIN)/zapvisor torture --for 10m $(ARGS)

test: $(VENV)/.installed-dev interop ## run all tests: ARGS="-k writer"
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

schedules: $(VENV)/.installed-dev ## fleets in virtual time for long: ARGS="--hours 1000 --seed 7"
	@$(BIN)/python -m tests.simulation $(ARGS)

check: $(VENV)/.installed-dev ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(FUZZ)/.installed: requirements-fuzz.lock requirements.lock | $(BIN)/python
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/python -m pip --disable-pip-version-check -q install --require-hashes -r requirements.lock
	$(FUZZ)/bin/python -m pip --disable-pip-version-check -q install --require-hashes -r requirements-fuzz.lock
	@touch $@

fuzz: $(FUZZ)/.installed ## fuzz every parser: ARGS="--for 60s --json"
	@$(FUZZ)/bin/python -m fuzz $(ARGS)

bench: $(VENV)/.installed ## run the benchmarks
	@for script in bench/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lock: ## pin the dependencies again
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-strip-extras --group build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-strip-extras --constraint requirements.lock --group dev pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-strip-extras --constraint requirements-dev.lock --group fuzz -o requirements-fuzz.lock

proto: $(VENV)/.installed-dev ## generate whatsapp/proto from its .proto files
	cd whatsapp/proto && ../../$(BIN)/python -m grpc_tools.protoc -I. --plugin=protoc-gen-mypy=../../$(BIN)/protoc-gen-mypy --python_out=. --mypy_out=. *.proto

manuals: $(VENV)/.installed ## write what is made from code: manual page, configuration reference
	$(BIN)/python scripts/make_man.py
	$(BIN)/python scripts/make_config_reference.py

clean:
	rm -rf $(VENV) $(FUZZ) .fuzz tests/*/node_modules
