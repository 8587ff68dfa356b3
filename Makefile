# The targets of the project (make help). `make demo` and `make test` need only Python 3.11, make, git and, on Debian or
# Ubuntu, root once for system packages.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What commands need. The packages of tests, checks and docs take minutes more.
RUNTIME := $(if $(wildcard $(STAMP)),$(STAMP),$(VENV)/.runtime)
PIP := $(BIN)/python -m pip
# $(call quickly,PYTHON,PACKAGES): uv takes seconds where pip takes a minute. It does not read pip's settings; where it cannot
# install without them, pip does.
quickly = $(PIP) install --quiet --disable-pip-version-check uv && \
    $(BIN)/uv pip install --quiet --no-cache --python $(1) $(2) || \
    { echo "uv could not install this; now with pip"; $(1) -m pip install --quiet --disable-pip-version-check $(2); }
EVERYTHING := --editable '.[test,check,docs]'
# An interrupted venv has no pip, and leaves its temporary files in TMPDIR.
MAKE_VENV = $(PIP) --version > /dev/null 2>&1 || \
    { mkdir -p $(VENV) && TMPDIR=$(CURDIR)/$(VENV) $(PYTHON) -m venv --clear $(VENV); }
SCRIPTS := build/extension
CLIENTS := build/clients
# Each test process has its own server. Files stay together, because the tests of some share a server, and keep their order,
# because the longest come first. One process more than processors, because many tests wait.
SIDE_BY_SIDE := -n $(shell expr $$(nproc) + 1) --maxprocesses 5 --dist loadfile --no-loadscope-reorder

# A hanging test prints its stack; the timeout in pyproject.toml then ends its process and the run.
HANGING := --max-worker-restart 0 -o faulthandler_timeout=300

# Warnings of pgspot that do not apply, with the reason:
#   plpython3u  pgspot reads SQL and PL/pgSQL only; other tools check the Python code
PGSPOT_IGNORE := --ignore-lang plpython3u
#   PS002, PS015 in an upgrade: Postgres replaces only objects that belong to the extension
PGSPOT_UPGRADE := --ignore PS002 --ignore PS015

CHECKS := check-tests check-library check-rest
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# The next run finds the tests compiled: to rewrite their asserts takes each process 6 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo all docs reference figures screenshots clients test test-unit test-fast test-trixie test-next fresh image engine roots \
    bench stress attack chaos check check-tests check-library check-rest install setup system-packages \
    test-programs test-packages clean

demo: $(RUNTIME)  ## the whole story in a minute, in a temporary cluster
	$(BIN)/evergreen setup
	$(BIN)/evergreen install
	$(BIN)/evergreen demo

docs: reference  ## the documentation site, in build/site; warnings are errors
	$(SITE)

reference: setup  ## docs/reference, from COMMENT ON and the code
	$(BIN)/python -m tools.reference

figures: $(STAMP)  ## pictures of docs/assets, from the output of benchmarks and the demo
	$(BIN)/python -m tools.figures

screenshots: test-packages  ## pictures of the dashboard in docs/assets, taken by chromium, in minutes
	$(BIN)/python -m tools.screenshots

all: $(RUNTIME)  ## what `make install` needs; for pgxn and packagers

test-unit: $(STAMP)  ## tests without a server, in seconds
	$(BIN)/pytest tests/unit -n 2 -m "not stress"

test-fast: setup  ## unit tests and the faster tests against a server, in minutes
	$(BIN)/pytest tests/unit tests/integration -m "not slow and not stress" $(SIDE_BY_SIDE)

# The checks run beside the tests, at a lower priority. `make --dry-run` would run a line that names $(MAKE) itself.
CHECK = $(MAKE) --no-print-directory check
test: $(STAMP)  ## checks, and all tests except stress, roots and bench
	$(MAKE) --no-print-directory --jobs 3 --output-sync=target test-packages clients
	mkdir -p build
	nice $(CHECK) > build/check.log 2>&1 & checks=$$!; \
	    $(BIN)/pytest $(SIDE_BY_SIDE) $(HANGING) --durations=25; failed=$$?; \
	    wait $$checks || { cat build/check.log; exit 1; }; exit $$failed

bench: setup  ## measurements, each against a baseline of the same run
	$(BIN)/pytest -m bench

stress: test-packages  ## long scenarios, fuzzing and faults
	$(BIN)/pytest -m stress $(SIDE_BY_SIDE)

attack: stress  ## alias of stress

chaos: setup  ## twenty minutes of writers, workers, faults and kills; CHAOS="--chaos-seed 7 --chaos-seconds 300" changes that
	$(BIN)/pytest -m "" tests/scenarios/chaos --chaos-seconds 1200 $(CHAOS)

test-trixie: test-packages  ## make test in a root of Debian 13, with its PostgreSQL 17 and Python 3.13 (root only)
	$(BIN)/python tests/packaging/debianroot.py trixie make test

# Debian's next release: PostgreSQL 18 and Python 3.14 when this was written.
NEXT := --packages=git,make,python3-venv,python3-dev,gcc,g++ forky

test-next: test-packages  ## the tests that use the server most, in a root of Debian's next release (root only)
	$(BIN)/python tests/packaging/debianroot.py $(NEXT) \
	    sh tests/packaging/next.sh tests/integration/capture tests/integration/queue tests/integration/worker \
	    tests/integration/storage tests/integration/search

fresh: test-packages  ## demo and test in new roots of Debian 12 and 13 with git, make and python3-venv (root only)
	for suite in bookworm trixie; do for command in demo test; do \
	    $(BIN)/python tests/packaging/debianroot.py --fresh $$suite make $$command || exit 1; done; done

# For the image's tests, which start an engine unless one answers.
engine:
	docker info > /dev/null 2>&1 || { command -v dockerd && command -v iptables; } > /dev/null || \
	    { apt-get update && apt-get install --yes --no-install-recommends docker.io iptables iproute2; }

image: test-packages engine  ## the image in containers: as the pages say, hardened, upgraded, with mounted secrets (root only)
	$(BIN)/pytest -m root tests/packaging/test_engine.py \
	    $(filter-out %_in_root.py,$(wildcard tests/packaging/test_image_*.py))

roots: test-packages engine  ## wheel and image in new roots of Debian 12 and 13, as on clean machines (root only)
	$(BIN)/pytest -m root

META.json: pyproject.toml plpy/evergreen/__init__.py extension/evergreen.control.in plpy/evergreen_host/packaging/pgxn.py $(RUNTIME)
	$(BIN)/python -m evergreen_host.packaging.pgxn > $@.new && mv $@.new $@

check: $(STAMP)  ## linters, types, layers, SQL and the site
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target $(CHECKS)

check-tests: $(STAMP)
	$(BIN)/basedpyright -p tests --pythonpath $(BIN)/python

check-library: $(STAMP)
	$(BIN)/basedpyright

check-rest: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(SITE)
	rm -rf $(SCRIPTS)
	$(BIN)/python -m evergreen_host.packaging.build $(SCRIPTS)
	$(BIN)/pgspot $(PGSPOT_IGNORE) $$(ls $(SCRIPTS)/evergreen--*.sql | grep -v 'evergreen--.*--')
	ls $(SCRIPTS)/evergreen--*--*.sql 2>/dev/null | xargs -r $(BIN)/pgspot $(PGSPOT_IGNORE) $(PGSPOT_UPGRADE)

install: $(RUNTIME)  ## install into the server of $PG_CONFIG, or of the pg_config on PATH
	$(BIN)/evergreen install

setup: system-packages  ## .venv, system packages, and the extension in the server
	$(BIN)/evergreen install

system-packages: $(STAMP)
	$(BIN)/evergreen setup

test-programs: system-packages
	$(BIN)/evergreen setup --for-tests

test-packages: setup test-programs  ## setup, and the packages that tests need

$(STAMP): pyproject.toml plpy/evergreen/__init__.py
	$(MAKE_VENV)
	$(call quickly,$(BIN)/python,$(EVERYTHING))
	touch $@

$(VENV)/.runtime: pyproject.toml plpy/evergreen/__init__.py
	$(MAKE_VENV)
	$(PIP) install --quiet --disable-pip-version-check --editable .
	touch $@

clients: $(CLIENTS)/.installed  ## LangChain and LlamaIndex, for tests/docs/test_client_pages.py

# They want older versions of pgvector and SQLAlchemy than our tests.
$(CLIENTS)/.installed: tests/docs/clients.txt | $(STAMP)
	test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	$(call quickly,$(CLIENTS)/bin/python,--requirement tests/docs/clients.txt)
	touch $@

help:  ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

clean:  ## removes .venv, and all that was built
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
