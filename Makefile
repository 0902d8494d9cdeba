# What a fresh machine needs: Python 3.11 or newer with venv, g++, make and perl. The rest comes with pip.
#
#   make run        the main job: train, quantise, emit, simulate and report configs/digits_mlp.toml
#   make test       every test
#   make sim        cocotb + Verilator on the RTL emitted last, or on BUILD=dir
#   make labs       the labs of examples/, whose tables and plots are written anew: minutes
#   make lint | typecheck | docs | clean
#   make bench      cycles, area, start-up and training step beside peers; bench-accuracy and
#                   bench-formats retrain or simulate for many minutes

PYTHON ?= python3
CONFIG ?= configs/digits_mlp.toml
BUILD ?= $(shell cat build/.last 2>/dev/null)
WORKERS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: run test sim lint typecheck docs labs bench bench-accuracy bench-formats bench-kernels bench-lenet5 bench-networks bench-compression bench-search setup clean
.DELETE_ON_ERROR:

run: $(STAMP)
	$(BIN)/chop transform --config $(CONFIG)

# Without this make's variables: tests call make on emitted folders, which would take over its flags.
test: $(STAMP)
	env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS $(BIN)/python -m pytest -n $(WORKERS) tests

sim: $(STAMP)
	@test -n "$(BUILD)" || { echo "error: nothing was emitted here yet; run 'make run'" >&2; exit 2; }
	@test -f "$(BUILD)/design.json" || { echo "error: no design in '$(BUILD)'" >&2; exit 2; }
	@$(MAKE) --no-print-directory -C $(BUILD) sim PYTHON=$(CURDIR)/$(BIN)/python

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# passes/, hw/ and configs/ install as subpackages of chop; mypy reads a tree of links in that shape.
typecheck: $(STAMP)
	rm -rf .typecheck
	mkdir -p .typecheck/chop
	ln -s $(CURDIR)/chop/* $(CURDIR)/passes $(CURDIR)/hw $(CURDIR)/configs .typecheck/chop/
	MYPYPATH=.typecheck $(BIN)/mypy .typecheck/chop tests benchmarks examples

# The page that is told by the code.
docs: $(STAMP)
	$(BIN)/chop list operators --markdown > docs/operators.md.new
	mv docs/operators.md.new docs/operators.md

bench: $(STAMP)
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/training.py

bench-accuracy: $(STAMP)
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/ptq.py --mnist

bench-kernels: $(STAMP)
	$(BIN)/python -m benchmarks.residual
	$(BIN)/python -m benchmarks.kernels

bench-networks: $(STAMP)
	$(BIN)/python benchmarks/networks.py

bench-lenet5: $(STAMP)
	$(BIN)/python benchmarks/lenet5.py --images 10000

bench-compression: $(STAMP)
	$(BIN)/python benchmarks/compression.py

bench-search: $(STAMP)
	$(BIN)/python benchmarks/search.py

bench-formats: $(STAMP)
	$(BIN)/python benchmarks/formats.py

labs: $(STAMP)
	$(BIN)/python examples/lab3_search/run.py
	$(BIN)/python examples/lab4_channels/run.py
	$(BIN)/python examples/lab4_hardware/run.py

setup: $(STAMP)

# setuptools first, at its pinned version: the build of chop itself then needs nothing unpinned.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@

clean:
	rm -rf build runs .typecheck .mypy_cache .ruff_cache .pytest_cache .hypothesis
