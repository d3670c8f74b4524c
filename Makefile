# One command for each thing one wants to do; every one of them does its own set-up, inside the checkout (.venv, build).
PYTHON ?= python3
BIN := .venv/bin
INPUTS := $(shell find emu -name '*.py' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' | grep -v emu/cpu/gen/) setup.py

.PHONY: run test check build clean benchmark hostile conformance

run: build            ## boots the built-in guest on this terminal
	@if [ -t 0 ]; then $(BIN)/emu run; else $(BIN)/emu run --expect '> ' --send 'poweroff\n' --timeout 60; fi

test: build .venv/test-packages    ## runs the whole test suite
	@tools/host-packages test
	$(BIN)/python -m pytest

check: build .venv/test-packages   ## everything that is checked before a merge
	@tools/host-packages test
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH=$(BIN):$$PATH $(BIN)/cython-lint $$(git ls-files 'emu/*.pyx' 'emu/*.pxd')
	$(BIN)/python -m pytest tests/test_layers.py tests/test_hygiene.py
	$(BIN)/python -m pytest

hostile: build .venv/test-packages  ## fuzzers in the debug build (10 minutes each), sequences against the host's processor, answers to signals
	$(BIN)/python tools/debug.py build
	$(BIN)/python tools/debug.py run -m tests.fuzz machine --seconds 600
	$(BIN)/python tools/debug.py run -m tests.fuzz decoder --seconds 600
	$(BIN)/python -m tests.fuzz native --total 10000000
	$(BIN)/python -m tests.fuzz stop

conformance: build .venv/test-packages   ## every row of the instruction table against the host's processor, 10 million cases
	$(BIN)/python -m tests.conformance

benchmark: build .venv/test-packages   ## how fast it is, beside its peers
	@tools/host-packages test
	$(BIN)/python -m benchmarks

build: build/stamp $(BIN)/emu

build/stamp: .venv/packages $(INPUTS)
	@echo "building (a second build compiles only what changed)"
	@$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

$(BIN)/emu: pyproject.toml | build/stamp
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps --config-settings editable_mode=compat -e .
	@touch $@

.venv/packages: pyproject.toml tools/host-packages
	@PYTHON=$(PYTHON) tools/host-packages build
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@echo "installing Python packages into .venv"
	@$(BIN)/python -m pip install -q --disable-pip-version-check $$($(BIN)/python tools/requirements.py build)
	@touch $@

.venv/test-packages: .venv/packages
	@echo "installing the packages of the tests into .venv"
	@$(BIN)/python -m pip install -q --disable-pip-version-check $$($(BIN)/python tools/requirements.py test)
	@touch $@

clean:                ## removes everything that was made
	rm -rf .venv build dist emu.egg-info emu/cpu/gen .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find emu tests benchmarks guests \( -name '*.so' -o -name '*.c' -path 'emu/*' -o -name '*.o' \) -delete 2>/dev/null; true
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
