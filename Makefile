PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.nnslim-setup
PYTEST := $(BIN)/python -m pytest -n 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint format bench bench-cifar bench-grow bench-export bench-eval bench-gate bench-gpu sweep docs docs-tables clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with nnslim and its tools, if missing or outdated

demo: $(STAMP) ## prune, evaluate, export and grow a small network, end to end
	@$(BIN)/python docs/demo/demo.py

test: $(STAMP) ## run the fast tests
	$(PYTEST) -m "not slow and not gpu"

test-all: $(STAMP) ## run every test that this machine can run
	$(PYTEST)

lint: $(STAMP) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: $(STAMP) ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(STAMP) ## print the benchmarks, beside Torch-Pruning
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c .ci/constraints.txt -e '.[bench]'
	@$(BIN)/python -m tests.benchmarks

bench-cifar: $(STAMP) ## compare recipes on CIFAR-10: make bench-cifar DATA=cifar10.npz MODELS="resnet56.th" (hours)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c .ci/constraints.txt -e '.[bench]'
	@$(BIN)/python -m tests.benchmarks.cifar $(DATA) $(MODELS) $(ARGS)

bench-grow: $(STAMP) ## compare planting with its controls: make bench-grow DATA=cifar10.npz TEACHER=resnet20.th (1 h)
	@$(BIN)/python -m tests.benchmarks.grow $(DATA) $(TEACHER) $(ARGS)

bench-export: $(STAMP) ## float32, float16 and int8 of a network: make bench-export DATA=cifar10.npz MODELS="resnet20.th"
	@$(BIN)/python -m tests.benchmarks.export $(DATA) $(MODELS) $(ARGS)

bench-eval: $(STAMP) ## how busy onnxruntime is while accuracy is measured, on small images and on JPEG files
	@$(BIN)/python -m tests.benchmarks.evaluation $(ARGS)

bench-gate: $(STAMP) ## does the latency gate keep its promise here: make bench-gate MODEL=resnet20.onnx (1 h)
	@$(BIN)/python -m tests.benchmarks.gate $(MODEL) $(ARGS)

bench-gpu: $(STAMP) ## latency of small CNNs under every CUDA option, on a machine with a GPU
	@$(BIN)/python -m tests.benchmarks.gpu $(ARGS)

sweep: $(STAMP) ## cut every classifier of torchvision and timm, and write docs/reference/coverage.md (1 h)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c .ci/constraints.txt -e '.[bench]'
	@$(BIN)/python -m tests.sweep

docs: $(STAMP) ## build the site of the documentation, build/site, and check its links
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c .ci/constraints.txt -e '.[docs]'
	@$(BIN)/mkdocs build --strict -f docs/site/mkdocs.yml

docs-tables: $(STAMP) ## write the tables of settings and reports in docs/reference
	@$(BIN)/python docs/reference/generate.py

clean: ## remove what the tools and the demo leave behind; .venv stays
	rm -rf build dist demo .pytest_cache .ruff_cache .hypothesis *.egg-info
	find nnslim tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# Some systems ship Python without ensurepip: then the system's pip fills the environment.
$(STAMP): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nnslim needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "setting up $(VENV) (PyTorch is large: a few minutes the first time)" >&2
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) 2>/dev/null || \
		{ $(PYTHON) -m venv --clear --without-pip $(VENV) && \
		  $(PYTHON) -m pip --python $(BIN)/python install -qq pip; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
		-c .ci/constraints.txt -e '.[dev]'
	@touch $@
