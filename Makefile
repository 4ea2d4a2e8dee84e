# Two commands need nothing but this file and Python 3.11: `make demo` and `make test`.
# The environment comes from a lock with hashes; MPICH has one of its own (both MPI wheels in
# one environment would fight over the name `mpirun`).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MPICH := .venv-mpich/.installed
SOURCES := proto agent collector tests benchmarks
# The parts that run in the user's interpreter, 3.8 and newer.
OLD := proto/logboom/format agent/logboom/shim agent/logboom/command.py \
       agent/logboom/agent/spool.py agent/logboom/agent/spool_cli.py
PIP_COMPILE := $(BIN)/pip-compile -q --generate-hashes --no-emit-index-url --no-emit-find-links \
       --no-emit-trusted-host --no-annotate --strip-extras --allow-unsafe --no-header

.PHONY: demo test check soak bench proto lock format clean

demo: $(INSTALLED)
	$(BIN)/logboom demo

test: check $(MPICH)
	$(BIN)/pytest -q -m "system and not soak"

check: $(INSTALLED)
	$(BIN)/ruff format --check -q $(SOURCES)
	$(BIN)/ruff check -q $(SOURCES)
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-logo > .import-contracts.txt || { cat .import-contracts.txt; exit 1; }
	$(BIN)/vermin -q -t=3.8- --no-tips --violations $(OLD)
	$(BIN)/pytest -q -m "not system and not soak"

soak: $(INSTALLED) $(MPICH)
	$(BIN)/pytest -q -m soak

bench: $(INSTALLED)
	$(BIN)/python benchmarks/throughput.py

proto: $(INSTALLED)
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=proto --pyi_out=proto \
	    --grpc_python_out=proto proto/logboom/wire/v1/logboom.proto

format: $(INSTALLED)
	$(BIN)/ruff format -q $(SOURCES)
	$(BIN)/ruff check -q --fix $(SOURCES)

lock: $(INSTALLED)
	$(PIP_COMPILE) --all-extras -o locks/dev.txt pyproject.toml locks/dev.in
	sed -i '/^logboom @/d; /^# WARNING/d; /^# Consider/d' locks/dev.txt  # the extras name one another
	$(PIP_COMPILE) -o locks/mpich.txt locks/mpich.in

clean:
	rm -rf $(VENV) .venv-mpich

$(INSTALLED): locks/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	    echo "logboom is developed with Python 3.11, and '$(PYTHON)' is not that; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	    test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq python3.11-venv >/dev/null; } || { \
	    echo "'$(PYTHON)' cannot make virtual environments; install Debian's python3.11-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r locks/dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(MPICH): locks/mpich.txt
	$(PYTHON) -m venv .venv-mpich
	.venv-mpich/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r locks/mpich.txt
	@touch $@
