# What a person does here. `make` alone lists it. Nothing that is installed by hand is taken for granted.

PYTHON ?= python3
BASE ?=
DEMO ?=
TESTS ?=
WORKERS ?= 2
CALLS ?= 5000
KILLS ?= $(shell expr $(CALLS) / 250)
PROFILE ?= lawful
SECONDS ?= 600
FAULTS ?= no-id
KEY ?= foreign
SEED ?= 1
ROUNDS ?= 30
QUICK ?=
ROWS ?=

ifneq ($(BASE),)
export PREFLIGHT_GATE_BASE := $(BASE)
export PREFLIGHT_DEMO_BASE := $(BASE)
endif

THOROUGH := --hypothesis-profile=thorough
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
RUNTIME := $(VENV)/.runtime
DEVELOP := $(VENV)/.develop

.DEFAULT_GOAL := help
.PHONY: help setup demo test pure check lint docs picture torture soak chaos bench images smoke-real clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12  the Python that .venv is made with (3.11 or newer)"
	@echo "  BASE=IMAGE         the image on this machine that ours are built on (python:3.12-slim if not given)"
	@echo "  DEMO='--sandbox process'   options of the demo"
	@echo "  TESTS='-m wire -x'  options of pytest"
	@echo "  WORKERS=4          processes that run tests at once (2 if not given; 0: none besides pytest's own)"
	@echo "  CALLS=100000 SEED=7 KILLS=200 PROFILE=lawless   what torture runs"
	@echo "  QUICK=1 ROWS=cpu,p50   a bench within 3 minutes; only the rows that begin so"
	@echo "  SECONDS=60 FAULTS=id KEY=own   what a soak runs (FAULTS=no-id KEY=foreign if not given)"

setup: $(DEVELOP) ## make .venv with everything that development needs

demo: $(RUNTIME) ## run four agents under a budget, offline; no account, no money, no Docker needed
	$(BIN)/agent-preflight demo $(DEMO)

test: $(DEVELOP) ## the whole test suite; tests with containers or a browser are skipped where there is none
	$(PYTEST) $(THOROUGH) $(TESTS)

pure: $(DEVELOP) ## the tests that need neither socket nor process: seconds, for while you write
	$(BIN)/python -m pytest -q -m "not docker and not wire" $(TESTS)

check: lint ## what must hold before a commit: format, lint, types, all tests without containers
	$(PYTEST) -m "not docker" $(THOROUGH) $(TESTS)

lint: $(DEVELOP) ## format, lint and types only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(DEVELOP) ## build the site of README and docs/ into dist/site; a broken link or any other warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file docs/site/mkdocs.yml

picture: $(DEVELOP) ## draw docs/live.svg and docs/report.png anew: a moment of a real offline run, and its report; needs Chromium
	$(BIN)/python -m tests.docs.picture

torture: $(DEVELOP) ## calls with a failing upstream and a proxy that is killed every few seconds; the ledger must equal the bill
	$(BIN)/python -m tests.torture --calls $(CALLS) --seed $(SEED) --kills $(KILLS) --profile $(PROFILE)

soak: $(DEVELOP) ## 64 callers for ten minutes, with an upstream that fails without an id; 35 minutes later all calls must be settled, and rightly
	$(BIN)/python -m tests.torture --soak $(SECONDS) --faults $(FAULTS) --key $(KEY) --seed $(SEED)

chaos: $(DEVELOP) ## sealed runs whose runner, proxy, gates and agents are killed at random; nothing may be left; needs Docker
	$(BIN)/python -m tests.chaos --rounds $(ROUNDS) --seed $(SEED) $(if $(BASE),--image $(BASE))

bench: $(DEVELOP) ## what a call costs, ours against a naive pass-through in the same run; what bounds hold
	$(BIN)/python -m tests.bench $(if $(QUICK),--quick) $(if $(ROWS),--rows $(ROWS)) $(if $(BASE),--image $(BASE))

images: $(RUNTIME) ## build the gate's and the demo agent's image on BASE, which must be present; nothing is pulled
	@$(BIN)/python -c 'import sys; sys.tracebacklimit = 0; from agent_preflight.docker.images import ensure_image; \
		from agent_preflight.engine.client import on_engine; \
		[print(kind, on_engine(lambda engine: ensure_image(engine, kind, sys.argv[1] or None))) for kind in ("gate", "demo")]' '$(BASE)'

smoke-real: $(RUNTIME) ## examples/first_run.py on the real OpenRouter with your keys; spends at most 2 cents
	@test -n "$$OR_ADMIN_KEY" && test -n "$$OPENROUTER_API_KEY" || { \
		echo "make: set OR_ADMIN_KEY and OPENROUTER_API_KEY to keys of your account; at most 2 cents are spent" >&2; exit 1; }
	docker build --quiet $(if $(BASE),--build-arg BASE=$(BASE)) --tag my-agent examples/my-agent
	$(BIN)/python examples/first_run.py

clean: ## remove .venv and all caches; runs/ is kept
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "make: $(PYTHON) is missing or older than Python 3.11; name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[metrics,ui]'
	@touch $@

# The heavier stamp counts for both, so that `make demo` after `make setup` installs nothing.
$(DEVELOP): pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[dev,clients,docs]'
	@touch $(RUNTIME) $@
