"""The last release against this version, side by side in one server: drains over HTTP, the built-in model, writers.

Each figure is given as a ratio to the release, and drains also as one to the straight-line script.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from evergreen_host.packaging import dist
from evergreen_host.packaging.postgres import find_postgres
from tests.bench.contenders import Bench, Case, processes, register
from tests.bench.measure import report, take_turns, timed
from tests.bench.model_server import serving
from tests.bench.texts import fill
from tests.fixtures.releases import installed, versions
from tests.fixtures.server.own_server import copy_of

SCRIPT, WORK = "queue-less script", "CALL embed_work(until_empty => true)"
ROUNDS = 5
BUILT_IN_ROWS = 10_000
UPDATED_ROWS = 20_000
CASES = [(Case(256, 0, 1, 20_000, 1000, ROUNDS), 0.55), (Case(1536, 0, 1, 8_000, 1000, ROUNDS), 1.1)]

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Cluster, str]]:
    """A server with the last release next to this version, and the release."""
    last = versions()[-1]
    with TemporaryDirectory(prefix="evergreen-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # pytest's own folders are closed to the server's user
        own = copy_of(find_postgres(), folder / "server")
        release = folder / "release"
        release.mkdir()
        with installed(own, last, dist.version(), release), Cluster(own, options={"max_wal_size": "4GB"}) as cluster:
            yield cluster, last


@contextmanager
def databases(both: tuple[Cluster, str]) -> Iterator[dict[str, str]]:
    """Databases with either version, by version."""
    cluster, last = both
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        made = {last: "before", "this version": "after"}
        for version, name in made.items():
            admin.execute(f"CREATE DATABASE {name}")
            with psycopg.connect(cluster.dsn(name), autocommit=True) as db:
                which = f"VERSION '{last}'" if version == last else ""
                db.execute(f"CREATE EXTENSION evergreen {which} CASCADE")
        yield {version: cluster.dsn(name) for version, name in made.items()}
        for name in made.values():
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(("case", "aim"), CASES, ids=str)
def test_drains_over_http(both, case, aim, capsys):
    with (
        databases(both) as dsns,
        serving(case.dimensions, case.milliseconds, 2 * case.seats) as server,
        processes(case.workers) as scripts,
    ):
        contenders = {}
        for version, dsn in dsns.items():
            db = psycopg.connect(dsn, autocommit=True)
            fill(db, case.rows)
            url = register(db, server, case)
            bench = Bench(db, dsn, case, scripts)
            contenders[version] = lambda bench=bench: bench.evergreen(WORK)
            if version != both[1]:
                contenders[SCRIPT] = lambda bench=bench, url=url: bench.scripts(url)
                two = Case(case.dimensions, 0, 2, case.rows, case.batch, case.rounds)
                pair = Bench(db, dsn, two, scripts)
                contenders["this version, 2 workers"] = lambda pair=pair: pair.evergreen(WORK)
        rounds = take_turns(contenders, case.rounds)
    with capsys.disabled():
        report(f"{case.rows:,} documents, {case}", "rows/s", rounds, {"this version": aim}, SCRIPT)
        aims = {"this version, 2 workers": 1.5}
        report("the same, by one worker of this version", "rows/s", rounds, aims, "this version")


def test_the_built_in_model(both, capsys):
    with databases(both) as dsns:
        contenders = {}
        for version, dsn in dsns.items():
            db = psycopg.connect(dsn, autocommit=True)
            fill(db, BUILT_IN_ROWS)
            contenders[version] = lambda db=db, dsn=dsn: built_in(db, dsn)
        rounds = take_turns(contenders, ROUNDS)
    with capsys.disabled():
        title = f"{BUILT_IN_ROWS:,} documents, wordllama-256"
        report(title, "rows/s", rounds, {"this version": 1.8}, both[1])


def built_in(db, dsn) -> float:
    """Drain the table with the built-in model; return rows a second."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}')")
    with psycopg.connect(dsn, autocommit=True) as worker:
        worker.execute("SELECT embed('loads the model')")
        seconds = timed(lambda: worker.execute(WORK))
    assert db.execute("SELECT count(*) FROM docs_embedding WHERE NOT is_stale").fetchone() == (BUILT_IN_ROWS,)
    db.execute("SELECT embed_drop('docs')")
    return BUILT_IN_ROWS / seconds


TRIGGER = "an empty PL/pgSQL trigger"


@pytest.mark.parametrize("rows_a_statement", [1, UPDATED_ROWS])
def test_writers(both, rows_a_statement, capsys):
    """Updates of a watched column by one session: each a transaction, or all rows at once."""
    with databases(both) as dsns:
        contenders = {}
        for version, dsn in dsns.items():
            db = psycopg.connect(dsn, autocommit=True)
            make_tables(db)
            contenders[version] = lambda db=db: updates(db, "watched", rows_a_statement)
            if version != both[1]:
                contenders[TRIGGER] = lambda db=db: updates(db, "touched", rows_a_statement)
        rounds = take_turns(contenders, ROUNDS)
    with capsys.disabled():
        aims = {"this version": 0.95} if rows_a_statement == 1 else {}
        report(f"updates of a watched column, {rows_a_statement:,} rows each", "rows/s", rounds, aims, TRIGGER)


def make_tables(db) -> None:
    """A watched table, and one with a trigger that does nothing."""
    db.execute("CREATE TABLE watched (id int PRIMARY KEY, body text NOT NULL) WITH (fillfactor = 50)")
    db.execute(f"INSERT INTO watched SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, {UPDATED_ROWS}) i")
    db.execute("CREATE TABLE touched (LIKE watched INCLUDING ALL) WITH (fillfactor = 50)")
    db.execute("INSERT INTO touched SELECT * FROM watched")
    db.execute("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    db.execute("CREATE TRIGGER nothing AFTER UPDATE ON touched FOR EACH ROW EXECUTE FUNCTION nothing()")
    db.execute("SELECT embed_model_add('h8', 'hash', 8)")
    db.execute("SELECT embed_create('watched', 'watched', columns => '{body}', model => 'h8', backfill => false)")


def updates(db, table: str, rows_a_statement: int) -> float:
    """Update every row of a table; return the rows a second. The log is emptied before, as workers would."""
    db.execute("TRUNCATE embed.change_log")
    db.execute(f"VACUUM {table}")
    db.execute("CHECKPOINT")
    change = f"UPDATE {table} SET body = md5(random()::text) || substr(body, 33) WHERE id BETWEEN %s AND %s"

    def run() -> None:
        for first in range(1, UPDATED_ROWS + 1, rows_a_statement):
            db.execute(change, (first, first + rows_a_statement - 1), prepare=True)

    seconds = timed(run)
    logged = UPDATED_ROWS if table == "watched" else 0
    assert db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (logged,)
    return UPDATED_ROWS / seconds
