# Every target sets up its needs: a virtual environment from the lock file, and, through the sandbox,
# real MySQL servers in a cache folder. Nothing else on the host changes.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo demo-conflicts demo-kafka test check lint types unit sim bench proof guards lock clean

demo: $(READY)          ## two sites, live two-sided traffic, and the proof that both sites are equal
	@$(BIN)/python -m drc.cli demo

demo-conflicts: $(READY)  ## both sites write the same rows: the winners, and the proof that both sites are equal
	@$(BIN)/python -m drc.cli demo --conflicts --seconds 12

demo-kafka: $(READY)    ## the demo with a daemon for each site and a real Kafka between the sites
	@$(BIN)/python -m drc.cli demo --kafka --dir .sandbox/demo-kafka

# Tests share servers, so the remains of one test may fail another. `unit` and `proof` shuffle and so
# find such tests; here the order is the same at every run. Tests without servers run beside the rest.
test: $(READY)          ## every test, on real servers
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup --randomly-dont-reorganize --durations=25

check: lint types unit  ## without servers, in under a minute

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo --no-cache

types: $(READY)
	@$(BIN)/mypy

unit: $(READY)
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal tests/unit tests/property tests/simulation

sim: $(READY)           ## a million schedules of concurrent writes, crashes, stepping clocks; N=…
	@$(BIN)/python scripts/sim.py -n $(or $(N),1000000)

bench: $(READY)         ## against MySQL's own replica in the same run; prints the ratios
	@$(BIN)/python scripts/bench.py

proof: $(READY)         ## the long forms of all tests that need servers
	@DRC_FULL=1 $(BIN)/python -m pytest -v --timeout=3600 tests/faults tests/browser tests/integration

guards: $(READY)        ## remove each safety guard in a copy and see the guard's test fail
	@$(BIN)/python scripts/guards.py

lock: $(READY)          ## pin the packages of pyproject.toml
	@$(BIN)/python -m pip install -q uv
	@$(BIN)/uv pip compile -q --generate-hashes --universal --python-version 3.11 \
	    --group dev pyproject.toml -o requirements.lock --custom-compile-command 'make lock'
	@$(BIN)/uv pip compile -q --generate-hashes --universal --python-version 3.11 \
	    -c requirements.lock pyproject.toml -o conf/docker/requirements.lock \
	    --custom-compile-command 'make lock'

$(READY): requirements.lock
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

clean:                  ## stop servers that demo, bench and trials left running, and remove all generated files
	@for folder in $(wildcard .sandbox/*/); do \
	    $(BIN)/python -m drc.cli sandbox down --purge --dir $$folder || exit 1; done
	@rm -rf $(VENV) .sandbox .pytest_cache .mypy_cache .ruff_cache .hypothesis bench-results
