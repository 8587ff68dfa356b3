"""One look for all browsers: what the page costs the database, and what it does not ask at all."""

import os
import signal
import threading
import time

import pytest

from evergreen_host.dashboard import poller as pollers
from evergreen_host.database import Database
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.pipelines.endpoints import create
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]


@pytest.fixture
def pipeline(db, docs):
    hash_model(db)
    create(db, model="hash8")
    drain_all(db)


@pytest.fixture
def asked(monkeypatch):
    """The statements of this process' sessions."""
    seen: list[str] = []
    rows = Database.rows

    def noted(self, query, *parameters):
        seen.append(query)
        return rows(self, query, *parameters)

    monkeypatch.setattr(Database, "rows", noted)
    return seen


def looks(served):
    return served.site.poller._state.number


def test_ten_browsers_cost_no_more_than_one(serve, pipeline, asked):
    served = serve()

    def statements(browsers: int) -> float:
        """Return how many a look costs while so many browsers ask for the live part again and again."""
        ended = threading.Event()

        def browse() -> None:
            while not ended.is_set():
                assert served.ask("/pipeline/live?name=docs").status == 200

        served.ask("/pipeline?name=docs")
        threads = [threading.Thread(target=browse) for _ in range(browsers)]
        for thread in threads:
            thread.start()
        start, before = looks(served), len(asked)
        wait_until(lambda: looks(served) >= start + 5)
        number, cost = looks(served) - start, len(asked) - before
        ended.set()
        for thread in threads:
            thread.join()
        return cost / number

    one, ten = statements(1), statements(10)
    assert ten <= one + 1, (one, ten)
    assert one <= 5


def test_without_a_browser_it_looks_less_often(serve, pipeline, monkeypatch):
    served = serve()
    poller = served.site.poller
    assert poller._look() < 10
    monkeypatch.setattr(poller, "_seen_at", time.monotonic() - 60)
    assert poller._look() == pytest.approx(10, abs=5)
    assert poller._look() >= pollers._UNSEEN_EVERY_S


def test_a_slow_database_is_asked_less_often(serve, pipeline, monkeypatch):
    """Looks take at most a twentieth of the time."""
    monkeypatch.setattr(pollers, "_SHARE", 20)
    served = serve()
    status = pollers.figures.status.read

    def slow(database, name):
        database.rows("SELECT pg_sleep(0.3)")
        return status(database, name)

    monkeypatch.setattr(pollers.figures.status, "read", slow)
    assert served.site.poller._look() >= 6


def test_no_statement_of_the_poller_is_dearer_than_embed_status(serve, pipeline, asked, db):
    """In blocks read, while a generation is being built."""
    hash_model(db, "hash16", 16)
    db.execute("INSERT INTO docs SELECT i, 'title', 'text ' || i FROM generate_series(100, 1000) i")
    drain_all(db)
    db.execute("SELECT embed_build('docs', model => 'hash16')")
    drain_all(db)
    served = serve()
    served.site.poller.refresh()
    queries = {query for query in asked if "embed_" in query and "%s" not in query}
    assert any("embed_usage" in query for query in queries)

    def blocks(query: str) -> int:
        text = query.replace("{schema}", "public").replace("{{", "{").replace("}}", "}")
        (plan,) = db.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}").fetchone()
        return plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]

    for query in queries:
        db.execute(query.replace("{schema}", "public"))
    status = max(blocks(query) for query in queries if "embed_status" in query)
    dearer = {query: found for query in queries if (found := blocks(query)) > status}
    assert dearer == {}, status


def test_a_table_that_is_locked_does_not_stop_the_page(serve, pipeline, connect):
    served = serve()
    with connect(autocommit=False) as other:
        other.execute("LOCK TABLE embed.change_log")
        wait_until(lambda: "embed.change_log is locked by process" in served.ask("/").text)
    wait_until(lambda: "is locked" not in served.ask("/").text)


def test_a_database_that_hangs_is_told_of(serve, pipeline, db, monkeypatch):
    """As when the network swallows everything: figures that are not renewed must not look new."""
    monkeypatch.setattr(pollers, "_HANGS_S", 0.5)
    served = serve()
    ((pid,),) = db.execute(
        "SELECT pid FROM pg_stat_activity"
        " WHERE application_name = 'evergreen dashboard' AND datname = current_database()"
    ).fetchall()
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: "has not answered a query for" in served.ask("/live").text)
        tag = served.ask("/live").headers["etag"]
        assert served.ask("/live", If_None_Match=tag).status == 304
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: "has not answered" not in served.ask("/live", If_None_Match=tag).text)


def test_an_extension_that_is_dropped_and_made_again(serve, db, pipeline):
    served = serve()
    db.execute("SELECT embed_drop('docs')")
    wait_until(lambda: "No pipelines" in served.ask("/live").text)
    create(db, model="hash8")
    wait_until(lambda: "/pipeline?name=docs" in served.ask("/live").text)


def test_sessions_are_few_and_named(serve, pipeline, db):
    served = serve()
    for _ in range(3):
        served.ask("/pipeline/search?name=docs&q=title")
        served.act("pause")
        served.act("resume")
    found = db.execute(
        "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'evergreen dashboard%' ORDER BY 1"
    ).fetchall()
    assert found == [("evergreen dashboard",), ("evergreen dashboard acts",), ("evergreen dashboard asks",)]
