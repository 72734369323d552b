# The one entry. `make` alone lists the targets.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
# Another Django than the newest, and more of the kind: `make test VENV=.venv52 DJANGO="django~=5.2.0 asgiref==3.8.1"`.
DJANGO ?=
# The tests' database: sqlite, postgresql or mariadb. "Tests" in the README gives the addresses of the last two.
DB ?= $(or $(TESTS_DB),sqlite)
# `make test ALL=1` runs the slow tests too: each server, projects of adopters, endurance.
ALL ?=
# How many tests run at once; most wait for a server. 0: one after the other, in one process.
JOBS ?= 3
# More for the command behind a target, such as `make test ARGS="-k drain"`.
ARGS ?=

RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
BENCH := .venv-bench# The benchmarks' own environment, with the peers.

# Drivers are no requirement of bgtasks. mysqlclient is compiled, with MariaDB's headers.
DRIVER_postgresql := psycopg[binary]>=3.1.12,<4
DRIVER_mariadb := mysqlclient>=2.2,<3
DRIVER := $(if $(DRIVER_$(DB)),$(VENV)/.driver-$(DB))

.DEFAULT_GOAL := help
.PHONY: help demo smoke test lint types bench messages screenshots format clean force

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  Variables: PYTHON=$(PYTHON) VENV=$(VENV) PORT=$(PORT) DJANGO=$(DJANGO) DB=$(DB) ARGS=$(ARGS)"

demo: $(INSTALLED) ## Serve the demo on 127.0.0.1:PORT; Ctrl-C drains it.
	@$(RUN) -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2>/dev/null \
	  || { echo "Port $(PORT) is taken (or not allowed). Choose another: make demo PORT=8001" >&2; exit 1; }
	@$(RUN) manage.py migrate --verbosity 0
	@$(RUN) manage.py make_demo_admin --port $(PORT)
	@# `exec`: Ctrl-C reaches the server itself. No access log: the start page asks for what is live each second.
	@exec $(RUN) -m uvicorn bgtasks_project.asgi:application --port $(PORT) --no-access-log \
	  --timeout-graceful-shutdown 5

smoke: $(INSTALLED) ## Run the demo under real load, stop it, compare its rows with the received messages.
	@$(RUN) -m bgtasks_project.smoke $(ARGS)

test: $(INSTALLED) $(DRIVER) ## Run the tests, on the database DB; ALL=1 the slow ones too.
	@TESTS_DB=$(DB) $(RUN) -m pytest -n $(JOBS) $(if $(ALL),,-m "not slow") $(ARGS)

lint: $(INSTALLED) ## Check style and layers.
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(VENV)/bin/lint-imports

types: $(INSTALLED) $(VENV)/.driver-postgresql ## Check types, those of PostgreSQL's driver too.
	@$(RUN) -m mypy $(ARGS)

bench: $(BENCH)/.installed ## Measure the cost of bgtasks, on the database DB, and of peers; ARGS="fire --quick" one suite.
	@$(BENCH)/bin/python -m benchmarks --database $(DB) $(ARGS)

messages: $(INSTALLED) ## Bring the German catalogue up to date with the source; needs GNU gettext.
	@$(RUN) -m tests.messages

screenshots: $(INSTALLED) ## Take the pictures of docs/admin.md anew; wants Chromium.
	@$(RUN) docs/screenshots.py

$(BENCH)/.installed: benchmarks/requirements.txt requirements.txt pyproject.toml
	@echo "Preparing $(BENCH) …"
	@$(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

format: $(INSTALLED) ## Format the code and mend the faults that ruff can mend.
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

clean: ## Delete the environment, the caches and the demo's data.
	@rm -rf $(VENV) $(BENCH) var build dist htmlcov .coverage .coverage.* *.egg-info
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The file remembers which DJANGO it was made with, so that another one is never tested by mistake.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(DJANGO))
$(INSTALLED): force
endif

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "'$(PYTHON)' is not Python 3.11 or newer. Name one that is: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; \
	  exit 1; }
	@echo "Preparing $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt $(foreach one,$(DJANGO),"$(one)")
	@echo "$(DJANGO)" > $@

$(VENV)/.driver-%: $(INSTALLED)
	@$(RUN) -m pip install --quiet --disable-pip-version-check "$(DRIVER_$*)"
	@touch $@
