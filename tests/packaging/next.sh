#!/bin/sh
# In a root of a Debian that is not released yet: part of the tests, with its PostgreSQL and Python. Where the built-in
# model's package has no wheel for that Python yet, one is made here first.
set -eu
wheels=/srv/wheels
if [ ! -d "$wheels" ]; then
    python3 -m venv /srv/builder
    requirement=$(sed -n 's/^ *"\(wordllama.*\)",$/\1/p' pyproject.toml)
    /srv/builder/bin/pip wheel --quiet --no-deps --wheel-dir "$wheels.new" "$requirement"
    mv "$wheels.new" "$wheels"
fi
export PIP_FIND_LINKS="$wheels"
make test-packages
.venv/bin/pytest -n 2 --dist loadfile "$@"
