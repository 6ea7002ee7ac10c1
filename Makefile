# Every target works on a machine that has only Python 3.11 and make: it first creates .venv and installs into it.

VENV := .venv
PYTHON_IN_VENV := $(VENV)/bin/python
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# What the demonstration needs, which is much quicker to install than the tools.
RUNS := $(VENV)/.runs
SOURCES := pyproject.toml hatch_build.py $(wildcard build_api/*.py) scripts/prepare.sh
PYTEST := $(PYTHON_IN_VENV) -m pytest
SEEDS ?= 2000
# More workers than cores only make time limits fire.
WORKERS ?= 2
# The Python that has the other systems of the benchmark installed (DBOS, Restate).
PEERS ?= $(PYTHON_IN_VENV)

.PHONY: help demo test test-pythons check lint bench simulate fmt clean

help:
	@echo "make demo            run the order example: kill everything half-way, watch the order complete, look at it in the web UI"
	@echo "make test            everything: style, types, imports, and all tests"
	@echo "make test-pythons    what depends on the Python, on every other Python from 3.11 on that is found"
	@echo "make check           the quick inner loop: style, types, imports, unit and store tests"
	@echo "make simulate SEEDS=n  run n seeds of the simulated cluster"
	@echo "make bench           compare speed with the reference server and with other systems; writes JSON"
	@echo "make fmt             format the code"

$(RUNS): $(SOURCES)
	@scripts/prepare.sh venv $(VENV)
	@echo "installing Perdure into $(VENV); this is done once and takes a moment"
	@$(PYTHON_IN_VENV) -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(INSTALLED): $(SOURCES)
	@scripts/prepare.sh venv $(VENV)
	@echo "installing Perdure and its tools into $(VENV); this is done once and takes a minute or more"
	@$(PYTHON_IN_VENV) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(RUNS)

demo: $(RUNS)
	@$(PYTHON_IN_VENV) -m examples.order.demo

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

check: lint
	$(PYTEST) tests/unit tests/quality tests/store -n $(WORKERS) -m "not serial"

# Both pytest calls run even if the first fails, so that one run shows everything; exit code 5 (nothing selected) is
# acceptable only for the serial part. The bytecode is for the hundreds of processes that tests start: they would compile
# everything anew where Python may not write it.
test: lint
	@scripts/prepare.sh node
	@scripts/prepare.sh browser
	@scripts/prepare.sh services
	@scripts/prepare.sh shells
	@$(PYTHON_IN_VENV) -m compileall -q -j $(WORKERS) --invalidation-mode checked-hash src
	@$(PYTEST) tests -n $(WORKERS) --dist worksteal -m "not serial"; parallel=$$?; \
	$(PYTEST) $$(grep -rlw serial tests --include='test_*.py' | LC_ALL=C sort) -m serial; serial=$$?; \
	[ $$parallel = 0 ] && { [ $$serial = 0 ] || [ $$serial = 5 ]; }

test-pythons: $(INSTALLED)
	@scripts/test_pythons.sh $(PYTHON_IN_VENV) $(WORKERS)

bench: $(INSTALLED)
	@$(PYTHON_IN_VENV) -m benchmarks; servers=$$?; \
	$(PYTHON_IN_VENV) -m benchmarks applications --peers $(PEERS); applications=$$?; \
	[ $$servers = 0 ] && [ $$applications = 0 ]

simulate: $(INSTALLED)
	@$(PYTHON_IN_VENV) -m tests.simulation --seeds $(SEEDS)

fmt: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(VENV)-3.* demo .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
