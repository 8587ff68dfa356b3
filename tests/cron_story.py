"""Two minutes under pg_cron: rows are written in two databases, and nobody but pg_cron calls a worker."""

import threading
from typing import Any

import psycopg
from provider import LoopbackProvider
from waiting import wait_until

from evergreen_host.cluster import Cluster

DATABASES = ("home", "away")
ROWS = 40
_MINUTE = 80  # seconds until the next full minute, and some

# Started every minute beside the scheduled workers, and still at it when the next one starts.
_OVERLAPPING = "CALL public.embed_work(max_runtime => '70 s')"
_LOOPING = "SELECT jobid FROM cron.job WHERE command LIKE 'CALL %'"


class CronStory:
    """``begin`` sets up and schedules, ``tell`` waits and writes, ``over`` is set when it is over.

    ``answers`` are what embed_schedule returned, ``jobs`` the numbers of the scheduled jobs, ``error`` what went wrong.
    """

    def __init__(self, cluster: Cluster, provider: LoopbackProvider) -> None:
        self.cluster = cluster
        self.provider = provider
        self.over = threading.Event()
        self.error: BaseException | None = None
        self.written: list[str] = []
        self.answers: dict[str, str] = {}
        self.jobs: list[int] = []
        self.refused: psycopg.Error | None = None

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """Open a session."""
        return psycopg.connect(self.cluster.dsn(database), autocommit=True)

    def begin(self) -> None:
        """Create a pipeline in both databases and schedule two workers for each, twice over."""
        for database in DATABASES:
            with self.connect(database) as db:
                self.provider.register(db)
                db.execute("CREATE TABLE docs (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)")
                db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
        with self.connect("home") as home, self.connect("away") as away:
            try:
                home.execute("SELECT embed_schedule()")
            except psycopg.Error as error:
                self.refused = error  # pg_cron is loaded here, but not created yet
            home.execute("CREATE EXTENSION pg_cron")
            for workers in (3, 2):  # the second call replaces what the first one made
                self.answers["home"] = home.execute("SELECT embed_schedule(%s)", (workers,)).fetchone()[0]
            self.answers["away"] = away.execute("SELECT embed_schedule(2)").fetchone()[0]
            home.execute(self.answers["away"])
            home.execute("SELECT cron.schedule('overlap', '* * * * *', %s)", (_OVERLAPPING,))
            self.jobs = [number for (number,) in home.execute(_LOOPING)]

    def tell(self) -> None:
        """Write while the first run works, and again while the second one does."""
        try:
            for number in (1, 2):
                wait_until(lambda number=number: self._runs() >= number, 2 * _MINUTE, f"run {number} of every job")
                for database in DATABASES:
                    self._write(database, number)
                wait_until(self._fresh, _MINUTE, f"what was written during run {number} to be fresh")
        except (psycopg.Error, TimeoutError) as error:
            self.error = error
        self.over.set()

    def _runs(self) -> int:
        """How often the job that ran least was started."""
        with self.connect("home") as db:
            (runs,) = db.execute(
                "SELECT min(x.runs) FROM (SELECT count(d.start_time) AS runs"
                " FROM unnest(%s::bigint[]) j (jobid) LEFT JOIN cron.job_run_details d USING (jobid)"
                " GROUP BY j.jobid) x",
                (self.jobs,),
            ).fetchone()
        return runs

    def _write(self, database: str, number: int) -> None:
        texts = [f"{database}, written during run {number}, row {row}" for row in range(ROWS)]
        self.written += texts
        with self.connect(database) as db:
            db.cursor().executemany("INSERT INTO docs (body) VALUES (%s)", [(text,) for text in texts])

    def _fresh(self) -> bool:
        found = 0
        for database in DATABASES:
            with self.connect(database) as db:
                found += db.execute("SELECT count(*) FROM docs_embedding WHERE NOT is_stale").fetchone()[0]
        return found == len(self.written)
