"""The planner's settings under which our own statements run."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import ClassVar

from evergreen import db
from evergreen.db.queries import Query


class Planner:
    """How statements are planned: as the session has it or, for our own, for tables that grow.

    Plans are kept for as long as the session. One that was made while a queue was empty would read it from end to end
    when it is full, for each row written: 4 s for a claim of 800 among 100,000. ``jit`` is off as well: a
    small table that has to be read whole costs the planner's penalty then, and would be compiled for. What else the
    database may have switched off is on.
    """

    _OURS: ClassVar = {
        "enable_seqscan": "off", "jit": "off", "plan_cache_mode": "auto", "enable_indexscan": "on",
        "enable_bitmapscan": "on", "enable_nestloop": "on", "enable_sort": "on", "enable_hashagg": "on",
    }  # fmt: skip
    _SET = Query(
        "planning",
        ("text[]", "text[]"),
        "SELECT n.name, pg_catalog.current_setting(n.name) AS before, pg_catalog.set_config(n.name, n.value, true)"
        " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) n (name, value)"
        " WHERE pg_catalog.current_setting(n.name) OPERATOR(pg_catalog.<>) n.value",
    )

    def __init__(self) -> None:
        self._before: dict[str, str] | None = None  # what the session has, while ours are in force

    @property
    def prefers_indexes(self) -> bool:
        """Whether our settings are in force; a plan is kept for each of the two."""
        return self._before is not None

    @contextmanager
    def prefer_indexes(self) -> Generator[None, None, None]:
        """Plan what is run inside for tables of any size."""
        if self._before is not None:
            yield
            return
        self._begin()
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def as_session(self) -> Generator[None, None, None]:
        """Run code that is not ours inside of ``prefer_indexes``, with the settings that it would have without."""
        if self._before is None:
            yield
            return
        self._end()
        try:
            yield
        finally:
            self._begin()

    def _begin(self) -> None:
        found = db.rows(self._SET, [*self._OURS], [*self._OURS.values()])
        self._before = {row["name"]: row["before"] for row in found}

    def _end(self) -> None:
        assert self._before is not None
        before, self._before = self._before, None
        db.rows(self._SET, [*before], [*before.values()])


planning = Planner()
