"""The operator's page with a hundred pipelines: first paint, weight, and what it asks of the database in a minute."""

import gzip
import shutil
import statistics
import time

import psycopg
import pytest
from playwright.sync_api import sync_playwright

from evergreen_host.cluster import Cluster
from evergreen_host.database import open_database
from evergreen_host.monitor import status
from tests.integration.dashboard.conftest import Served, serving

pytestmark = pytest.mark.bench

PIPELINES, ROWS, BROWSERS = 100, 50, 10
MINUTE = 60.0
_COUNT = "SELECT sum(calls)::float8 FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'"


@pytest.fixture(scope="module")
def server():
    with Cluster(options={"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track": "top"}) as made:
        with psycopg.connect(made.dsn(), autocommit=True) as db:
            db.execute("CREATE EXTENSION evergreen CASCADE; CREATE EXTENSION pg_stat_statements")
            db.execute("SELECT embed_model_add('h8', 'hash', 8)")
            for number in range(PIPELINES):
                name = f"source_{number:03}"
                db.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, body text)")
                db.execute(f"INSERT INTO {name} SELECT i, 'text ' || i FROM generate_series(1, {ROWS}) i")
                db.execute("SELECT embed_create(%s, %s, columns => '{body}', model => 'h8')", (name, name))
            db.execute("CALL embed_work(until_empty => true, max_runtime => '5 min')")
            db.execute("UPDATE source_007 SET body = body || '!'")
        yield made


def first_paint(page, address):
    """Milliseconds until something is painted, and until the table is there."""
    page.goto(address)
    page.wait_for_selector("#p100")
    painted = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    return page.evaluate(painted), page.evaluate(
        "performance.timing.domInteractive - performance.timing.navigationStart"
    )


def weights(served: Served):
    """Bytes of the page and of its live part, as they are and as they are sent."""
    sizes = {}
    for path in ("/", "/live", "/static/page.js", "/static/style.css"):
        text = served.ask(path).text.encode()
        sizes[path] = (len(text), len(gzip.compress(text)))
    return sizes


def asked_in_a_minute(db, pages):
    """Statements in a minute with these tabs open."""
    before = db.execute(_COUNT).fetchone()[0]
    started = time.monotonic()
    while time.monotonic() < started + MINUTE:
        pages[0].wait_for_timeout(500)
    return (db.execute(_COUNT).fetchone()[0] - before) / (time.monotonic() - started) * 60


def test_a_hundred_pipelines(server, capsys):
    with (
        serving(server.dsn()) as served,
        sync_playwright() as playwright,
        psycopg.connect(server.dsn(), autocommit=True) as db,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        paints = [first_paint(page, served.url) for _ in range(7)]
        sizes = weights(served)
        with open_database(server.dsn(), "bench") as database:
            started = time.perf_counter()
            for _ in range(5):
                status.read(database, None)
            looked = (time.perf_counter() - started) / 5
        one = asked_in_a_minute(db, [page])
        others = [browser.new_page() for _ in range(BROWSERS - 1)]
        for other in others:
            other.goto(served.url)
        ten = asked_in_a_minute(db, [page, *others])
        browser.close()
    with capsys.disabled():
        print(f"\n{PIPELINES} pipelines")
        print(f"  first paint          {statistics.median(p for p, _ in paints):8.0f} ms (aim 500)")
        print(f"  interactive          {statistics.median(i for _, i in paints):8.0f} ms")
        for path, (raw, sent) in sizes.items():
            print(f"  {path:20} {raw / 1000:8.1f} kB, {sent / 1000:.1f} kB sent")
        print(f"  embed_status         {1000 * looked:8.0f} ms for all")
        print(f"  statements a minute  {one:8.0f} with one tab, {ten:.0f} with {BROWSERS} (aim: the same)")
    assert ten < 1.3 * one
