# Two commands do everything on a machine with Python (and Go, or PyPI's): `make run` and `make test`.
# What they need is installed into .venv; the built control plane is kept in ~/.cache/vkubelet, and the
# cluster of `make run` lives in ~/.local/state/vkubelet/dev (VKUBELET_CACHE_DIR, VKUBELET_DEV_DIR move them).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LAUNCHER := providers/wasmtime/bin/vkubelet-launcher
TOOLBOX := vkubelet/toolbox/toolbox.json
NATIVE := $(wildcard providers/wasmtime/native/*.[ch] providers/wasmtime/native/*.py) providers/wasmtime/engine.py

.PHONY: run test style types layers bytecode unit integration conformance conformance-quick bench pictures docs lock native toolbox clean

run: $(LAUNCHER) $(TOOLBOX)
	$(BIN)/vkubelet dev

test: style types layers unit integration conformance-quick

style: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

# Two at a time, as CI has processors: each process of integration tests has a cluster of its own. What loads the
# machine more than that runs by itself. Files are taken in order: those with the fewest tests, which would come last,
# are not the shortest. What tests leave is in a new directory, which stays when one fails: pytest's own way to remove
# those of earlier runs ends on the deep trees that a killed run may have left. The first process to die, as of a test
# that hangs (pyproject.toml), ends the run: another would do the same test again.
PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

define in_own_directory
	directory=$$(mktemp -d) && $(BIN)/pytest $(1) --basetemp=$$directory/t && rm -rf $$directory
endef

# Hundreds of agents are started: where Python is told to keep no bytecode, each would compile the sources again.
bytecode: $(STAMP)
	$(BIN)/python -m compileall -q vkubelet providers oci

unit: $(LAUNCHER) $(TOOLBOX) bytecode
	$(call in_own_directory,tests/unit $(PARALLEL))

integration: $(LAUNCHER) $(TOOLBOX) bytecode
	$(call in_own_directory,tests/integration $(PARALLEL) -m "not crowded")
	$(call in_own_directory,tests/integration -m crowded)

# Kubernetes' own node specs against a node here, held against tests/conformance/specs.txt: all of them take most of
# an hour, the quick ones a few minutes.
conformance: $(LAUNCHER) $(TOOLBOX)
	$(BIN)/python -m tests.conformance

conformance-quick: $(LAUNCHER) $(TOOLBOX)
	$(BIN)/python -m tests.conformance --quick

native: $(LAUNCHER)

# The installation builds it; after a change to its sources it is built again.
$(LAUNCHER): $(NATIVE) | $(STAMP)
	$(BIN)/python -m providers.wasmtime.native.build

toolbox: $(TOOLBOX)

$(TOOLBOX): $(shell find deploy/toolbox -type f) vkubelet/dev/toolbox.py vkubelet/dev/snapshot.py | $(STAMP)
	$(BIN)/python -m vkubelet.dev.toolbox

bench: $(LAUNCHER) $(TOOLBOX)
	$(BIN)/python -m tests.bench

# A dev cluster must run, with its pod `hello` (make run).
pictures: $(STAMP)
	PYTHONPATH=tests/support $(BIN)/python -m tests.pictures

docs: $(STAMP)
	$(BIN)/python -m vkubelet.pods.fields > docs/pod-fields.md

# The lock names versions and hashes only, so that it holds with any index.
lock: $(STAMP)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --extra test --extra dev-cluster \
		--custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) .cache build dist
