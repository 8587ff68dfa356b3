"""`evergreen import pgai`, run in this process."""

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

from evergreen_host.cli import app
from evergreen_host.errors import EvergreenError
from tests.fixtures.error_checks import everything
from tests.fixtures.pgai_catalog import template

EVERGREEN = Path(sys.executable).with_name("evergreen")
FRAME = {"formatting": template("$title\n\n$chunk")}


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    error: str


def run(dsn, *args):
    """In this process: most of a command's time is its start."""
    out = io.StringIO()
    with redirect_stdout(out):
        try:
            app(["import", "pgai", "--dsn", dsn, *args], standalone_mode=False)
        except EvergreenError as error:
            return Done(error.exit_code, out.getvalue(), f"{error}\nhint: {error.hint}" if error.hint else str(error))
    return Done(0, out.getvalue(), "")


def imported(dsn, *args):
    """Import, and return what it says in JSON."""
    done = run(dsn, "--json", *args)
    assert done.code == 0, done
    return json.loads(done.out)


def refused(db, dsn, *args):
    """An import that must be refused before anything is changed; returns what it said."""
    before = everything(db)
    done = run(dsn, *args)
    assert done.code == 1, done
    assert "hint:" in done.error
    assert everything(db) == before
    return done.error
