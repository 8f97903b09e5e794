# make run, make test: everything a newcomer needs. make check: what CI calls.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
# many tests wait for processes: two more of them than there are cores, and whoever is idle takes from the others
PYTEST = $(BIN)/python -m pytest -n $$(( $$(nproc) + 2 )) --dist worksteal
# they start hundreds of Pythons: where bytecode is not kept, as in many images, each would compile everything anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run test check lint types bench fuzz faults soak schemas clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v python3 >/dev/null || { echo "python3 is missing: apt-get install python3 python3-venv"; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed"; exit 1; }
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { echo "venv is missing: apt-get install python3-venv"; exit 1; }
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing $(VENV) && uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
	  python3 -m venv $(VENV) && $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@

run: setup
	@$(BIN)/config-daemon dev

# all but the fault campaign, which `make check` has as well
test: setup need-mosquitto need-strace
	@$(PYTEST) --ignore tests/faults

check: setup need-mosquitto need-strace lint types
	@$(PYTEST)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PYTHONPATH=. $(BIN)/lint-imports --no-cache

types: setup
	@$(BIN)/mypy

bench: setup
	@$(BIN)/python -m bench

# a million inputs for each reader: `make fuzz COUNT=10000 READERS="env lkg" SEED=7` for less
COUNT = 1000000
SEED = 20260314
fuzz: setup
	@$(BIN)/python -m tools.fuzz --count $(COUNT) --seed $(SEED) $(READERS)

# every row of the fault campaign in full: `make faults ROWS="12 35" SEED=7` for some; results are kept, and told by
# `python -m tools.faults.report`. `make soak RUNS=300` kills at random under 50 writes a second.
RUNS = 300
ROWS =
RESULTS = tools/faults/results
CHOSEN = $(if $(filter command environment,$(firstword $(origin SEED))),--seed $(SEED))
faults: setup need-mosquitto need-strace
	@$(BIN)/python -m tools.faults --full --results $(RESULTS)/faults.jsonl $(CHOSEN) $(if $(ROWS),--rows $(ROWS))

soak: setup need-mosquitto
	@$(BIN)/python -m tools.faults.soak --runs $(RUNS) --results $(RESULTS)/soak.jsonl $(CHOSEN)

.PHONY: need-strace
need-strace:
	@command -v strace >/dev/null || { echo "strace is missing: apt-get install strace"; exit 1; }

.PHONY: need-mosquitto
need-mosquitto:
	@PATH="$$PATH:/usr/sbin" command -v mosquitto >/dev/null || [ -n "$$CONFIG_DAEMON_TEST_BROKER" ] \
	  || { echo "mosquitto is missing: apt-get install mosquitto"; exit 1; }

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
