"""Runs inside a backend, put there by stopping.py: stops the worker of that session, and of no other, at one step.

A step is a commit of changed rows, by its number since ``arm``, or a query, by its name. Commits of nothing (a worker
breathes while it waits) and of housekeeping, which has something to do or not, are not counted, so that the numbers are
the same in every run.
"""

import json
import os
import signal
import sys
import time

import plpy
from evergreen import db

LOCK = 7700  # first key of the advisory lock that the test holds while this session is to stay where it is

_commit, _rows, _run = db.commit, db.rows, db.run
_plan = {}
_commits = []
_queries = []
_changed = [None]


def _label():
    """What the commit is of: the body of the worker's step."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_qualname == "Worker._step":
            if frame.f_locals["body"].__module__ == "evergreen.schedule.maintenance":
                return "maintenance"
            return frame.f_locals["body"].__qualname__.replace(".<locals>", "").replace(".<lambda>", "")
        frame = frame.f_back
    return "between steps"


def _park(key):
    plpy.execute("SELECT pg_catalog.set_config('application_name', 'parked', false)")
    wait = f"SELECT pg_catalog.pg_try_advisory_xact_lock_shared({LOCK}, {key}) AS free"
    while not plpy.execute(wait)[0]["free"]:
        time.sleep(0.005)
    plpy.execute("SELECT pg_catalog.set_config('application_name', '', false)")


def _end_here(how):
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    plpy.execute("SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())")
    while True:
        plpy.execute("SELECT 1")


def _reached(where, when):
    if _plan.get("where") != where or _plan["when"] != when:
        return
    _plan["left"] -= 1
    if _plan["left"]:
        return
    how, key = _plan["how"], _plan["key"]
    _plan.clear()
    plpy.notice(f"stopping {when} {_commits[-1] if isinstance(where, int) else where}")
    if how == "park":
        _park(key)
    else:
        _end_here(how)


_CHANGED = """
    SELECT sum(pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid) + pg_catalog.pg_stat_get_xact_tuples_updated(c.oid)
               + pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid))::int8 AS rows
    FROM pg_catalog.pg_class c
    WHERE c.relkind = 'r' AND c.relnamespace IN ('embed'::regnamespace, to_regnamespace('embed_store'))
"""


def _writes():
    """Whether rows were changed since the last look; a worker's first commit is of nothing."""
    before, _changed[0] = _changed[0], plpy.execute(_CHANGED)[0]["rows"]
    return before is not None and _changed[0] != before


def _stopping_commit():
    if not _writes() or _label() == "maintenance":
        _commit()
        return
    _commits.append(_label())
    number = len(_commits)
    _reached(number, "before")
    _commit()
    _reached(number, "after")


def _stopping(query):
    def stopping(asked, *arguments):
        _queries.append(asked.name)
        _reached(asked.name, "before")
        done = query(asked, *arguments)
        _reached(asked.name, "after")
        return done

    return stopping


db.commit, db.rows, db.run = _stopping_commit, _stopping(_rows), _stopping(_run)


def arm(plan):
    """Count commits from here on, and stop as ``plan`` says: where, when, how, left (the how manieth time), key."""
    _commits.clear()
    _queries.clear()
    _changed[0] = None
    _plan.clear()
    _plan.update(json.loads(plan))


def tell():
    """Leave the names of the steps committed and of the queries run in settings of the session."""
    told = plpy.prepare("SELECT pg_catalog.set_config('stopping.' || $1, $2, false)", ["text", "text"])
    plpy.execute(told, ["commits", json.dumps(_commits)])
    plpy.execute(told, ["queries", json.dumps(_queries)])
