# Every target does its own set-up. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
PYTHON := $(VENV)/bin/python
JS := tests/js
ARGS ?=

# Processes that share the tests, each a file at a time; tests/conftest.py has their number. Picked tests run in one.
WORKERS := -n logical --dist loadfile --no-loadscope-reorder
# Checks run in parallel. Each prints its output in one piece when it ends, and a failure does not stop the others.
PARALLEL := --jobs --keep-going --output-sync=target
# Tests start hundreds of Python processes, each of which would compile the library anew.
unexport PYTHONDONTWRITEBYTECODE
# What `make quick` leaves out; tests/support/programs.py finds the tests that start programs.
QUICK := not soak and not bench and not wires and not pages and not browser and not program
DOCUMENTATION := documentation
# A stamp is younger than what was installed for it.
RUN := $(VENV)/.installed-run
LOWEST := .venv-lowest
LOWEST_TESTS := tests/capture tests/gateway tests/vocabulary tests/hub tests/log tests/platforms
DEV := $(VENV)/.installed-dev
NODE := $(JS)/node_modules/.installed
PACKAGE := packages/js/node_modules/.installed
# The clients of other systems that tests drive: one folder for each protocol.
CLIENTS := $(patsubst %/package.json,%/node_modules/.installed,$(wildcard tests/wires/*/js/package.json))

TESTED := docs/guide/front-ends/tested-clients.md

.PHONY: help demo test lowest quick check formatting lint types public-types imports documentation prose bench wires pages path attack soak docs js tools dist clean distclean

help: ## this list
	@echo 'make TARGET [ARGS="..."]'
	@sed -nE 's/^([a-z]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(RUN) ## watch a research assistant's run live, offline (ARGS="--help" lists its options)
	@$(PYTHON) -m lg_streaming demo $(ARGS)

# With ARGS only tests run: who picks some is at work on them. A test builds the documentation, so the checks need not.
test: DOCUMENTATION :=
test: tools $(NODE) $(CLIENTS) $(if $(ARGS),$(DEV),check) ## check, then every test (ARGS="-k name" runs some tests, and no check)
	$(PYTHON) -m pytest -q --durations=15 $(WORKERS) $(ARGS)

quick: $(DEV) ## formatting, lint, imports, then the tests that need neither a browser, Node nor a process of their own
	@$(MAKE) $(PARALLEL) formatting lint imports
	$(PYTHON) -m pytest -q --durations=5 $(WORKERS) -m "$(QUICK)" --hypothesis-profile=quick $(ARGS)

lowest: tools ## tests of gateway, hub and capture on the lowest versions that are allowed (ARGS picks others)
	tools/lowest $(LOWEST)
	$(LOWEST)/bin/python -m pytest -q $(WORKERS) -m "$(QUICK)" $(if $(ARGS),$(ARGS),$(LOWEST_TESTS))

check: $(DEV) ## formatting, lint, types, who imports whom, documentation, prose
	@tools/system-packages node npm
	@$(MAKE) $(PARALLEL) formatting lint types public-types imports $(DOCUMENTATION) prose

formatting:
	$(VENV)/bin/ruff format --check --quiet
lint:
	$(VENV)/bin/ruff check --quiet
types:
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(VENV)/bin/pyright
public-types:
	tools/public-types $(VENV)
imports:
	$(VENV)/bin/lint-imports --no-logo --no-cache
documentation:
	tools/build-docs
prose:
	$(PYTHON) tools/check-prose

bench: $(DEV) $(NODE) ## measure, one line of JSON each (ARGS="name" picks one)
	@$(PYTHON) -m tests.bench $(ARGS)

# With ARGS only some checks run: the page keeps its tables.
wires: tools $(DEV) $(NODE) $(CLIENTS) ## every version of the other systems' clients: writes docs/guide/front-ends/tested-clients.md
	$(PYTHON) -m pytest -q -m "wires or tested" -o faulthandler_timeout=1200 tests/wires tests/npm --tested-clients=$(if $(ARGS),- $(ARGS),$(TESTED) -n 2 --dist loadfile)

pages: tools $(DEV) $(NODE) ## every test of the watch page in Chromium; make test runs some of them
	$(PYTHON) -m pytest -q $(WORKERS) -m "pages or browser" tests/watch $(ARGS)

path: $(DEV) ## list the functions on a token's way, from the model's callback to the server's socket
	@$(PYTHON) -m tests.bench.path

attack: $(DEV) ## mount every attack on a server on loopback, and print what came of it (ARGS="4" picks a row of the table)
	@$(PYTHON) -m tests.attacks $(ARGS)

soak: tools $(DEV) $(NODE) ## the tests that run for minutes
	$(PYTHON) -m pytest -q -m soak -o faulthandler_timeout=3600 $(ARGS)

docs: $(DEV) ## the documentation as a site in site/
	@tools/build-docs site
	@echo 'site/index.html is ready'

js: $(NODE) $(CLIENTS) ## the JavaScript packages that tests drive

tools: ## the programs that tests need: redis-server, postgres, chromium, node, npm, curl, nginx, haproxy
	@tools/system-packages redis-server postgres chromium node npm curl nginx haproxy

dist: $(DEV) $(PACKAGE) ## the wheel, the source archive and the npm package in dist/
	$(PYTHON) -m build --outdir dist
	cd packages/js && npm pack --pack-destination ../../dist

clean: ## remove what was built, and caches
	rm -rf build dist site packages/js/dist packages/js/LICENSE .pytest_cache .ruff_cache .hypothesis .import_linter_cache test-results
	find . -path ./$(VENV) -prune -o -path ./$(LOWEST) -prune -o -path '*/node_modules' -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

distclean: clean ## and the virtual environment and the JavaScript packages
	rm -rf $(VENV) $(LOWEST) .venv-langgraph-dev $(JS)/node_modules packages/js/node_modules tests/wires/*/js/node_modules tests/wires/pages/build

$(RUN): pyproject.toml tools/virtual-environment
	@tools/virtual-environment $(VENV) --editable '.[demo]'
	@touch $@

$(DEV): pyproject.toml tools/virtual-environment
	@tools/virtual-environment $(VENV) --editable '.[compression,demo,http2,metrics,redis,tracing]' --group dev
	@touch $(RUN) $@

%/node_modules/.installed: %/package.json
	@tools/system-packages node npm
	@cd $* && npm install --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@
