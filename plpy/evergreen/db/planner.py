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

    _OURS: ClassVar[dict[str, str]] = {
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
        self.prefers_indexes = False  # our settings are in force; a plan is kept for each of the two
        self._session: dict[str, str] = {}  # what the session has instead

    @contextmanager
    def prefer_indexes(self) -> Generator[None, None, None]:
        """Plan what is run inside for tables of any size."""
        if self.prefers_indexes:
            yield
            return
        self._session = session = self._set(self._OURS)
        self.prefers_indexes = True
        try:
            yield
        finally:
            self.prefers_indexes = False
            self._set(session)

    @contextmanager
    def as_session(self) -> Generator[None, None, None]:
        """Run code that is not ours inside of ``prefer_indexes``, with the settings that it would have without."""
        if not self.prefers_indexes:
            yield
            return
        session = self._session
        self._set(session)
        self.prefers_indexes = False
        try:
            yield
        finally:
            # First: if the next line is cancelled, the settings are those of before, too.
            self._session, self.prefers_indexes = session, True
            self._set(self._OURS)

    def _set(self, wanted: dict[str, str]) -> dict[str, str]:
        """Set what differs; return what that was before."""
        return {row["name"]: row["before"] for row in db.rows(self._SET, [*wanted], [*wanted.values()])}


planning = Planner()
