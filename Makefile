# Every target makes .venv itself when it has to. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RECIPE ?= fast
RUN ?= runs/latest
ARGS ?=
JOBS ?= 2

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: setup
setup: $(READY) ## Make .venv from the lock file (uv when it is there, else venv and pip)

# Bytecode is compiled here: without it every start of the client would compile again.
$(READY): requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: install Python 3.10 to 3.13, or make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
	  { echo "make: TensorFlow 2.21 needs Python 3.10 to 3.13, not $$($(PYTHON) -V): make PYTHON=python3.12" >&2; exit 2; }
	@echo "Setting up $(VENV): about 2 GB with TensorFlow, once."
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" $(VENV) && \
	  uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt && \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	fi
	@$(BIN)/python -m compileall -q delivery rollout scoring training serving client fashion_common
	@touch $@

.PHONY: demo
demo: $(READY) ## Train, export, serve and ask: the whole road on the real data
	@mkdir -p build
	@set -o pipefail; $(BIN)/python tools/demo.py $(ARGS) | tee build/demo.txt

.PHONY: readme
readme: $(READY) ## Put what was printed and measured into README.md and docs/
	@$(BIN)/python tools/readme.py

.PHONY: train
train: $(READY) ## Train (RECIPE=fast|textbook, ARGS=...)
	@$(BIN)/fashion train --recipe $(RECIPE) $(ARGS)

.PHONY: export
export: $(READY) ## Export the newest run (RUN=...) as the next version
	@$(BIN)/fashion export $(RUN)

.PHONY: serve
serve: $(READY) ## Serve the newest version in the foreground (ARGS=...)
	@$(BIN)/fashion serve $(ARGS)

.PHONY: predict
predict: $(READY) ## Ask a running server for class names (ARGS="IMAGE...")
	@$(BIN)/fashion predict $(ARGS)

.PHONY: bench-server
bench-server: $(READY) ## Measure the embedded server against its bars (needs h2load and wrk)
	@$(BIN)/python -m benchmarks.bench_server $(ARGS)

.PHONY: bench-client
bench-client: $(READY) ## Measure the client against tensorflow-serving-api and h2load (ARGS="--server URL")
	@$(BIN)/python -m benchmarks.bench_client $(ARGS)

.PHONY: bench-training
bench-training: $(READY) ## Measure the recipes against the textbook's program (ARGS="--accurate")
	@$(BIN)/python -m benchmarks.bench_training $(ARGS)

.PHONY: soak
soak: $(READY) ## Ten minutes of load, reloads, attacks and killed workers (ARGS="--minutes 2")
	@$(BIN)/python -m benchmarks.soak $(ARGS)

# An engine that reaches no network by itself builds with NETWORK=host; ENGINE=docker|podman chooses one.
IMAGE = $(BIN)/python tools/image.py $(if $(ENGINE),--engine $(ENGINE)) $(if $(NETWORK),--network $(NETWORK)) \
  $(if $(BASE_IMAGE),--base-image $(BASE_IMAGE)) $(if $(TAG),--tag $(TAG))

.PHONY: image
image: $(READY) ## Build fashion-serving: TensorFlow Serving with the model in it (BASE_IMAGE=..., TAG=...)
	@$(IMAGE) serving

.PHONY: image-gpu
image-gpu: $(READY) ## Build fashion-serving-gpu on TF Serving's GPU image
	@$(IMAGE) serving-gpu

.PHONY: image-embedded
image-embedded: $(READY) ## Build fashion-embedded: the embedded server, for amd64 and arm64
	@$(IMAGE) embedded

.PHONY: image-light
image-light: $(READY) ## Build fashion-light: the embedded server on LiteRT, for amd64 and arm64
	@$(IMAGE) light

.PHONY: image-score
image-score: $(READY) ## Build fashion-score: fashion-light with what fashion score needs
	@$(IMAGE) score

.PHONY: image-score-ray
image-score-ray: $(READY) ## Build fashion-score-ray: the same with Ray
	@$(IMAGE) score-ray

.PHONY: image-pull
image-pull: $(READY) ## Build fashion-pull: fashion-light with what fashion pull and signatures need
	@$(IMAGE) pull

.PHONY: image-client
image-client: $(READY) ## Build fashion-client: the command line without TensorFlow
	@$(IMAGE) client

.PHONY: test-container
test-container: $(READY) ## Build the images and test them alive; fails where no engine runs (SERVING_IMAGE=...)
	@$(BIN)/python -m pytest --require-container tests/e2e tests/docker $(ARGS)

.PHONY: test
test: $(READY) ## Run all tests, JOBS=2 at a time (ARGS=...)
	@$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

# Started processes are measured too; each writes a file of its own, which `combine` adds up.
.PHONY: coverage
coverage: $(READY) ## Run all tests, report the branches that none reaches (ARGS=...)
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n $(JOBS) $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered

.PHONY: mutants
mutants: $(READY) ## Change the product on purpose, list what no test notices (ARGS="--sample 300 --seed 7")
	@$(BIN)/python -m tools.mutants --jobs $(JOBS) $(ARGS)

.PHONY: check
check: $(READY) ## ruff, ruff format --check, mypy --strict, import-linter; check-jsonschema and zizmor for workflows
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/zizmor --offline --no-progress --quiet --pedantic --strict-collection .

.PHONY: format
format: $(READY) ## Let ruff mend and format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: apis
apis: $(READY) ## Generate the API's descriptors and stubs from tensorflow-serving-api
	@$(BIN)/python tools/generate_apis.py

.PHONY: dist
dist: $(READY) ## Build the wheel and the source archive into dist/
	@$(BIN)/hatchling build

LOCK = uv pip compile pyproject.toml --quiet --no-strip-extras --universal --python-version 3.10 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header --no-annotate

# Markers keep one file right for every platform and Python version; no index or download address is written.
.PHONY: lock
lock: $(READY) ## Pin and hash all dependencies anew under requirements/ (UPGRADE=1 for the newest)
	@PATH="$(BIN):$$PATH"; set -e; \
	for extra in training embedded light dev; do \
	  $(LOCK) $(if $(UPGRADE),--upgrade) --extra $$extra --output-file requirements/$$extra.txt; \
	done; \
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra light docker/light.in --output-file requirements/light-image.txt; \
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra light --extra score --output-file requirements/score.txt; \
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra light --extra ray --output-file requirements/score-ray.txt; \
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra light --extra pull docker/pull.in --output-file requirements/pull.txt; \
	$(LOCK) $(if $(UPGRADE),--upgrade) --output-file requirements/client.txt; \
	$(LOCK) $(if $(UPGRADE),--upgrade) --extra embedded docker/embedded-cpu.in \
	  --overrides docker/embedded-cpu.overrides --output-file requirements/embedded-cpu.txt
	@$(BIN)/python -m tools.base_pins requirements/*.txt

.PHONY: clean
clean: ## Remove what was built, trained and cached (not .venv, not data/)
	rm -rf build dist models runs .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
