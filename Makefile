# Every target works on a clean clone with Python >= 3.11, Java 17+, Maven and apt: `setup` comes first by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
SETUP := $(VENV)/.setup
TEST_SETUP := $(VENV)/.test-setup
CODE := libs services infra examples benchmarks tests
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo quickstart test check format bench faults up down lock

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP) ## Install everything: virtual environment, system packages, Kafka's jars

$(SETUP): requirements.lock pyproject.toml infra/kafka/pom.xml
	@$(PYTHON) -c 'import sys; sys.exit("moard needs Python 3.11 or newer, this is %d.%d; name another with: make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "[1/4] system packages and Kafka"
	@$(PYTHON) -m infra.provision
	@echo "[2/4] virtual environment"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "[3/4] Python packages (torch is large: about a minute)"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@echo "[4/4] done"
	@touch $(SETUP)

demo: $(SETUP) ## Watch the whole system learn on MovieLens-100K (ARGS=--exit ends after the summary)
	@$(BIN)/moard demo $(ARGS)

quickstart: $(SETUP) ## The same loop in one process, no server, about ten seconds
	@$(BIN)/moard quickstart $(ARGS)

$(TEST_SETUP): $(SETUP)
	@echo "what only the tests run: a JDK, Node, Chromium and Prometheus"
	@$(PYTHON) -m infra.provision --tests
	@touch $(TEST_SETUP)

test: $(TEST_SETUP) ## All tests, on real Kafka, Redis and MariaDB
	$(BIN)/python -m pytest $(ARGS)

check: $(SETUP) ## Linters, types and import contracts
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(SETUP) ## Rewrite the code as the formatter wants it
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(SETUP) ## Run a benchmark: make bench NAME=scoring [SHORT=1], NAME=all for every one
	$(BIN)/python -m benchmarks $(or $(NAME),all) $(if $(SHORT),--short)

faults: $(TEST_SETUP) ## Inject the matrix's faults and judge the histories: make faults [SEEDS=3] [ROWS=F1,F2] [SHORT=1]
	$(BIN)/python -m tests.faults $(if $(SEEDS),--seeds $(SEEDS)) $(if $(ROWS),--rows $(ROWS)) $(if $(SHORT),--short)

up: $(SETUP) ## Start moard on this machine: Kafka, Redis, MariaDB and the three services
	@$(BIN)/moard up

down: $(SETUP) ## Stop what `up` started
	@$(BIN)/moard down

lock: $(SETUP) ## Pin dependencies again after a change of pyproject.toml
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --universal --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --python-version 3.11 --output-file requirements.lock
