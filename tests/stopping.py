"""Stop a worker's session at an exact step: parked until it is let go, terminated, or killed.

For this a superuser's session patches the Python of its own backend; the product has no code for it.
"""

import json
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from waiting import Background, wait_until

Connection = psycopg.Connection[Any]

_BACKEND = Path(__file__).with_name("stopping_backend.py")
_LOCK = 7700
_keys = count(1)

# Of a worker that does one batch: its commits, of the log folded and of rows claimed, prepared and written;
# and amid the last of them.
COMMITS = [(number, when) for number in (1, 2, 3, 4) for when in ("before", "after")]
STEPS = [*COMMITS[:6], ("lock_jobs", "after"), *COMMITS[6:]]


class Stoppable:
    """A session that stops where it is told; ``control`` is another one, which holds it there."""

    def __init__(self, session: Connection, control: Connection) -> None:
        self.session = session
        self.pid = session.info.backend_pid
        self._control = control
        self._key = next(_keys)
        self._work: Background | None = None
        self._holds = False
        self.stopped_at = ""
        session.add_notice_handler(self._hear)
        session.execute("SELECT embed_setting('lease')")  # loads the library
        self._inside(
            "import sys, types",
            "stopping = types.ModuleType('stopping')",
            f"exec({_BACKEND.read_text('utf-8')!r}, stopping.__dict__)",
            "sys.modules['stopping'] = stopping",
        )

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        said = notice.message_primary or ""
        if said.startswith("stopping "):
            self.stopped_at = said.removeprefix("stopping ")

    def _inside(self, *lines: str) -> None:
        self.session.execute(sql.SQL("DO LANGUAGE plpython3u {}").format(sql.Literal("\n".join(lines))))

    def start(
        self, statement: str, where: int | str | None = None, when: str = "before", *, how: str = "park", nth: int = 1
    ) -> Background:
        """Start a statement that stops before or after its so manieth commit, or a query of this name."""
        plan = {"where": where, "when": when, "how": how, "left": nth, "key": self._key}
        self._inside("import stopping", f"stopping.arm({json.dumps(plan)!r})")
        if where is not None and how == "park":
            self._control.execute("SELECT pg_advisory_lock(%s, %s)", (_LOCK, self._key))
            self._holds = True
        self._work = Background(self.session, statement)
        return self._work

    def parked(self, statement: str, where: int | str, when: str = "before", *, nth: int = 1) -> bool:
        """Start a statement and wait until it is parked; False when it came to its end without."""
        work = self.start(statement, where, when, nth=nth)
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND application_name = 'parked'"

        def is_parked() -> bool:
            return self._control.execute(asleep, (self.pid,)).fetchone() == (1,)

        wait_until(lambda: is_parked() or not work.running, what="the step to stop at")
        return work.running

    def let_go(self) -> Any:
        """Let the parked session go on, and wait for its end; raises what it raised."""
        if self._holds:
            self._control.execute("SELECT pg_advisory_unlock(%s, %s)", (_LOCK, self._key))
            self._holds = False
        assert self._work is not None
        return self._work.result()

    def commits(self) -> list[str]:
        """What was committed since the last start, by the name of the worker's step."""
        return self._told("commits")

    def queries(self) -> list[str]:
        """Which queries were run since the last start, by name."""
        return self._told("queries")

    def _told(self, what: str) -> list[str]:
        self._inside("import stopping", "stopping.tell()")
        return json.loads(self.session.execute(f"SELECT current_setting('stopping.{what}')").fetchone()[0])
