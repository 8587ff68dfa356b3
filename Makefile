# The commands of the project. `make demo` and `make test` need nothing but Python 3.11, make, git and
# (on Debian or Ubuntu) root once, for the operating system's packages.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SCRIPTS := build/extension
# Each process of the tests has a server of its own; files stay whole, since some share a server, and in their order, since
# the longest comes first. One process more than processors, because many tests wait for something.
SIDE_BY_SIDE := -n $(shell expr $$(nproc) + 1) --maxprocesses 5 --dist loadfile --no-loadscope-reorder

# A test that hangs says where, and then (pyproject.toml) ends the process that runs it, and the run.
HANGING := --max-worker-restart 0 -o faulthandler_timeout=300

# pgspot's complaints that do not apply, with the reason:
#   plpython3u  pgspot reads SQL and PL/pgSQL only; the Python behind these functions is checked by the other tools
PGSPOT_IGNORE := --ignore-lang plpython3u
#   PS002, PS015 in an upgrade: what is replaced there belongs to the extension, or Postgres refuses to
PGSPOT_UPGRADE := --ignore PS002 --ignore PS015

.PHONY: help demo all test test-unit test-fast test-trixie test-next fresh roots bench stress attack chaos check install \
    setup test-packages clean

demo: setup  ## the whole story in a minute, in a throw-away cluster
	$(BIN)/evergreen demo

all: $(STAMP)  ## what `make install` needs; pgxn and packagers ask for it

test-unit: $(STAMP)  ## what needs no server, in seconds
	$(BIN)/pytest tests/unit -n 2 -m "not stress"

test-fast: setup  ## and each package against a server, but for the tests that take long, in minutes
	$(BIN)/pytest tests/unit tests/integration -m "not slow and not stress" $(SIDE_BY_SIDE)

test: check test-packages  ## checks, and every test but those of stress, roots and bench
	$(BIN)/pytest $(SIDE_BY_SIDE) $(HANGING) --durations=25

bench: setup
	$(BIN)/pytest -m bench

stress: test-packages  ## the long stories: what independent attackers tried
	$(BIN)/pytest -m stress $(SIDE_BY_SIDE)

attack: stress  ## another name of it

chaos: setup  ## twenty minutes of writers, workers, faults and kills; CHAOS="--chaos-seed 7 --chaos-seconds 300" for others
	$(BIN)/pytest -m "" tests/scenarios/chaos --chaos-seconds 1200 $(CHAOS)

test-trixie: test-packages  ## the same in a root of Debian 13: PostgreSQL 17 and Python 3.13 from its own packages (root only)
	$(BIN)/python tests/packaging/debianroot.py trixie make test

# Debian's next release: PostgreSQL 18 and Python 3.14 when this was written.
NEXT := --packages=git,make,python3-venv,python3-dev,gcc,g++ forky

test-next: test-packages  ## the parts that talk to the server most, in a root of Debian's next release (root only)
	$(BIN)/python tests/packaging/debianroot.py $(NEXT) \
	    sh tests/packaging/next.sh tests/integration/capture tests/integration/queue tests/integration/worker \
	    tests/integration/storage tests/integration/search

fresh: test-packages  ## both commands in new roots of Debian 12 and 13 that have git, make and python3-venv (root only)
	for suite in bookworm trixie; do for command in demo test; do \
	    $(BIN)/python tests/packaging/debianroot.py --fresh $$suite make $$command || exit 1; done; done

roots: test-packages  ## wheel and image put to use in new roots of Debian 12 and 13, as on clean machines (root only)
	$(BIN)/pytest -m root

META.json: pyproject.toml plpy/evergreen/__init__.py extension/evergreen.control.in plpy/evergreen_host/packaging/pgxn.py $(STAMP)
	$(BIN)/python -m evergreen_host.packaging.pgxn > $@.new && mv $@.new $@

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/basedpyright -p tests --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	rm -rf $(SCRIPTS)
	$(BIN)/python -m evergreen_host.packaging.build $(SCRIPTS)
	$(BIN)/pgspot $(PGSPOT_IGNORE) $$(ls $(SCRIPTS)/evergreen--*.sql | grep -v 'evergreen--.*--')
	ls $(SCRIPTS)/evergreen--*--*.sql 2>/dev/null | xargs -r $(BIN)/pgspot $(PGSPOT_IGNORE) $(PGSPOT_UPGRADE)

install: $(STAMP)  ## into the server that $PG_CONFIG (or the pg_config on PATH) names
	$(BIN)/evergreen install

setup: $(STAMP)
	$(BIN)/evergreen setup
	$(BIN)/evergreen install

test-packages: setup  ## and the packages that no test may do without
	$(BIN)/evergreen setup --for-tests

$(STAMP): pyproject.toml plpy/evergreen/__init__.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,check]'
	touch $@

help:  ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
