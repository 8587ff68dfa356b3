"""Takes the pictures of the dashboard's page: `python -m tools.screenshots`. Needs a server, chromium and three minutes.

A cluster of its own, the demo's documents, a worker, and edits; then Chromium looks at the page.
"""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from playwright.sync_api import Browser, sync_playwright

from evergreen_host.cluster import Cluster
from evergreen_host.demo import corpus
from tools.paths import DOCS

_ROWS = 3000
_EDIT_S = 180.0
_EVERGREEN = Path(sys.executable).with_name("evergreen")
_QUESTION = "compress a file"
_SETUP = """
CREATE EXTENSION evergreen CASCADE;
CREATE TABLE docs (id int PRIMARY KEY, title text, body text);
CREATE TABLE tickets (id int PRIMARY KEY, body text);
CREATE TABLE reviews (id int PRIMARY KEY, body text);
INSERT INTO tickets SELECT i, 'Ticket ' || i || ': the invoice of order ' || i * 7 || ' is missing' FROM generate_series(1, 400) i;
INSERT INTO reviews SELECT i, 'Review ' || i || ': works as described' FROM generate_series(1, 900) i;
CREATE FUNCTION short_texts(texts text[]) RETURNS vector[] LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(texts) t WHERE t ~ 'order (49|56|63) ') THEN
        RAISE 'the text has more than 512 tokens' USING ERRCODE = '22023';
    END IF;
    RETURN ARRAY(SELECT embed(t)::vector FROM unnest(texts) t);
END $$;
"""
_PIPELINES = """
SELECT embed_create('docs', 'docs', columns => '{title,body}', options => '{"max_lag": "1 minute"}');
SELECT embed_model_add('in-house', 'function', 256, remote_name => 'public.short_texts', options => '{"inputs": 8}');
SELECT embed_create('tickets', 'tickets', columns => '{body}', model => 'in-house', options => '{"max_attempts": 1}');
SELECT embed_create('reviews', 'reviews', columns => '{body}');
"""


@contextmanager
def _running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([_EVERGREEN, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def _fill(db: psycopg.Connection) -> None:
    db.execute(_SETUP)
    found = corpus.best(_ROWS)
    with db.cursor().copy("COPY docs FROM STDIN") as copy:
        for number, document in enumerate(found.documents, start=1):
            copy.write_row((number, document.title, document.body))
    db.execute(_PIPELINES)


def _edit(db: psycopg.Connection, seconds: float) -> None:
    chance = random.Random(7)  # noqa: S311 - not for secrets
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        many = 200 if chance.randint(1, 16) == 1 else chance.randint(1, 3)
        db.execute(
            "UPDATE docs SET body = CASE WHEN random() < 0.4 THEN body || ' edited' ELSE body END, title = title"
            " WHERE id IN (SELECT 1 + floor(random() * %s)::int FROM generate_series(1, %s))",
            (_ROWS, many),
        )
        time.sleep(chance.uniform(0.05, 0.8))  # the pace of people, for the charts


def _shoot(db: psycopg.Connection, browser: Browser, address: str) -> None:
    for name, path, scheme, size in (
        ("dashboard", "/", "light", (1240, 900)),
        ("dashboard-pipeline", "/pipeline?name=docs", "light", (1240, 900)),
        ("dashboard-phone", "/pipeline?name=tickets", "dark", (390, 844)),
    ):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        page = context.new_page()
        page.goto(f"{address}{path.lstrip('/')}")
        page.wait_for_selector("#live")
        page.screenshot(path=DOCS / "assets" / f"{name}.png", full_page=name == "dashboard-pipeline")
        context.close()
    context = browser.new_context(viewport={"width": 1240, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.goto(f"{address}pipeline?name=docs")
    db.execute("SELECT embed_pause('docs')")  # so that some vectors are stale
    db.execute("UPDATE docs SET body = body || ' edited' WHERE id % 9 = 0")
    page.fill("#q", _QUESTION)
    page.fill("#k", "3")
    page.click("#ask")
    page.wait_for_selector("#found h3")
    page.click("#draw")
    page.wait_for_selector("#points")
    page.hover("#points circle >> nth=7", force=True)
    page.locator("#found").screenshot(path=DOCS / "assets" / "dashboard-search.png")
    page.locator("#map").screenshot(path=DOCS / "assets" / "dashboard-map.png")
    context.close()


def main() -> None:
    """Write the pictures."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed: make test-packages")
    with Cluster() as cluster, psycopg.connect(cluster.dsn(), autocommit=True) as db:
        _fill(db)
        served = ("dashboard", "--dsn", cluster.dsn(), "--listen", "127.0.0.1:0")
        with _running("worker", "--dsn", cluster.dsn()), _running(*served) as page:
            address = (page.stdout.readline() if page.stdout else "").split()[-1]
            time.sleep(20)  # without changes: the beginning of the charts
            db.execute("SELECT embed_pause('reviews')")
            _edit(db, _EDIT_S)
            db.execute("SELECT embed_build('docs', model => 'wordllama-128')")
            _edit(db, 30.0)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                _shoot(db, browser, address)
                browser.close()


if __name__ == "__main__":
    main()
