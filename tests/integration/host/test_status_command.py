"""`evergreen status` and `evergreen metrics` against a real database, run as one runs them."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from evergreen_host.database import open_database
from evergreen_host.monitor.status import History, _render, read, sparkline
from evergreen_host.report import format_duration
from tests.fixtures.processes import running
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

EVERGREEN = Path(sys.executable).with_name("evergreen")


def run(*args, **options):
    return subprocess.run([EVERGREEN, *args], capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.fixture
def two(db, docs):
    """Two pipelines, one with two rows that wait."""
    hash_model(db)
    for name in ("docs", "Ünusual [name]"):
        db.execute("SELECT embed_create(%s, 'docs', columns => '{body}', model => 'hash8')", (name,))
    db.execute("SELECT embed_drain()")
    db.execute("SELECT embed_pause('docs')")
    db.execute("UPDATE docs SET body = 'edited' WHERE id < 3")
    db.execute("SELECT embed_drain()")
    return "docs"


def test_status_as_a_table(dsn, two):
    done = run("status", "--dsn", dsn)
    assert (done.returncode, done.stderr) == (0, "")
    line = next(line for line in done.stdout.splitlines() if "docs" in line and "paused" in line)
    assert re.findall(r"\d+", line)[:3] == ["10", "8", "2"]
    assert "Ünusual [name]" in done.stdout
    alone = run("status", "docs", "--dsn", dsn)
    assert "Ünusual" not in alone.stdout


def test_a_table_that_is_locked_is_named(dsn, two, connect):
    """As by VACUUM FULL. A reader that waited for it would show nothing, and not say why."""
    with connect(autocommit=False) as other:
        other.execute("LOCK TABLE embed.change_log")
        done = run("status", "--dsn", dsn)
        assert "evergreen_up 0.0" in run("metrics", "--dsn", dsn).stdout
        pid = other.info.backend_pid
    assert done.returncode == 1
    assert f"table embed.change_log is locked by process {pid} (LOCK TABLE embed.change_log)" in done.stderr
    assert f"SELECT pg_terminate_backend({pid});" in done.stderr
    assert run("status", "--dsn", dsn).returncode == 0


def test_status_as_json(dsn, two):
    found = json.loads(run("status", "--dsn", dsn, "--json").stdout)
    assert [(p["pipeline"], p["state"], p["fresh"], p["pending"]) for p in found["pipelines"]] == [
        ("docs", "paused", 8, 2),
        ("Ünusual [name]", "active", 10, 0),
    ]
    assert found["pipelines"][0]["oldest_pending_age"] > 0


def test_status_stays_up_to_date_until_interrupted(dsn, two, db):
    """On a terminal, as one sees it."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "170", "LINES": "40"}
    watch = [EVERGREEN, "status", "--watch", "--every", "0.1", "--dsn", dsn]
    seen = ""
    with running(watch, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True) as process:
        os.close(theirs)

        def has(text):
            nonlocal seen
            seen += os.read(ours, 65536).decode("utf-8", "replace")
            return text in seen

        wait_until(lambda: has("▁█") or has("██"), what="the backlog's bars")
        db.execute("SELECT embed_resume('docs'); SELECT embed_drain()")
        seen = ""
        wait_until(lambda: has("█▁"), what="the backlog going down")
        process.terminate()  # not SIGINT: tests in the background ignore it
        os.close(ours)
        assert process.wait(30) != 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("status", "nope", "--dsn", "{dsn}"), 1, 'pipeline "nope" does not exist'),
        (("status", "--dsn", "host=/nowhere"), 1, "No such file"),
        (("status", "--dsn", "{bare}"), 3, "CREATE EXTENSION evergreen"),
        (("metrics", "--dsn", "host=/nowhere"), 1, "No such file"),
        (("status", "--dsn", "this is no dsn"), 1, "hint"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(cluster, dsn, arguments, code, told):
    done = run(*(one.format(dsn=dsn, bare=cluster.dsn("template1")) for one in arguments))
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_who_has_read_enough_is_no_error(dsn, two):
    done = subprocess.run(
        f"'{EVERGREEN}' metrics --dsn '{dsn}' | head -1", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


def samples(text):
    return {
        (one.name, one.labels.get("pipeline"), one.labels.get("state")): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_metrics_are_what_prometheus_reads(dsn, two):
    found = samples(run("metrics", "--dsn", dsn).stdout)
    assert found["evergreen_up", None, None] == 1
    assert found["evergreen_pending", "docs", None] == 2
    assert found["evergreen_fresh", "Ünusual [name]", None] == 10
    assert found["evergreen_state", "docs", "paused"] == 1
    assert found["evergreen_state", "docs", "active"] == 0
    assert found["evergreen_oldest_pending_age_seconds", "docs", None] > 0
    assert found["evergreen_texts_total", "docs", None] == 10


def test_the_dashboard_asks_for_metrics_that_there_are(dsn, two):
    panels = json.loads(run("metrics", "--dashboard").stdout)["panels"]
    asked = {name for p in panels for t in p["targets"] for name in re.findall(r"evergreen_\w+", t["expr"])}
    told = set(re.findall(r"^# TYPE (\S+)", run("metrics", "--dsn", dsn).stdout, re.MULTILINE))
    assert asked <= told


def test_metrics_of_the_promise_the_workers_and_the_budgets(dsn, two, db, connect):
    db.execute("SELECT embed_resume('docs'); SELECT embed_alter('docs', '{\"max_lag\": \"1 minute\"}')")
    db.execute("UPDATE embed.job SET unserved_since = unserved_since - interval '3 minutes'")
    db.execute("UPDATE embed.change_log SET changed_at = changed_at - interval '3 minutes'")
    text = run("metrics", "--dsn", dsn).stdout
    found = samples(text)
    assert found["evergreen_state", "docs", "late"] == 1
    assert 119 < found["evergreen_late_seconds", "docs", None] < 240
    assert found["evergreen_late_seconds", "Ünusual [name]", None] == 0
    assert found["evergreen_workers", None, None] == 0
    assert 'evergreen_budget_spent{budget="daily_tokens",pipeline="docs"} 0.0' in text
    worker = connect()
    worker.execute("SET application_name = 'evergreen worker'")
    assert samples(run("metrics", "--dsn", dsn).stdout)["evergreen_workers", None, None] == 1
    told = run("status", "--dsn", dsn).stdout
    assert re.search(r"docs: late since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: a backlog of 2 rows", told)


def test_alerts_are_printed():
    assert run("metrics", "--alerts").stdout.startswith("# Alert rules")


def test_metrics_are_served_also_while_the_database_is_away(dsn, two, db, cluster):
    with running(
        [EVERGREEN, "metrics", "--serve", "--port", "0", "--dsn", dsn], stdout=subprocess.PIPE, text=True
    ) as server:
        address = server.stdout.readline().split()[-1]
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert samples(answer.read().decode())["evergreen_pending", "docs", None] == 2
        name = db.info.dbname
        with_db = cluster.dsn()
        import psycopg

        with psycopg.connect(with_db, autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert samples(answer.read().decode()) == {("evergreen_up", None, None): 0}
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert samples(answer.read().decode())["evergreen_up", None, None] == 1
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) != 0


def test_on_a_narrow_terminal_the_last_bars_are_shown(dsn, two):
    history = History()
    with open_database(dsn, "status") as link:
        rows = read(link, "docs")
        for backlog in (1, 1, 1, 1, 1, 1, 8, 4, 8):
            history.add([{**rows[0], "pending": backlog, "in_flight": 0}])
        for width in (120, 160):
            console = Console(width=width, file=(file := io.StringIO()))
            console.print(_render(link, rows, history))
            assert "█▅█" in file.getvalue()


def test_bars_go_from_zero_to_the_largest():
    assert sparkline([], 5) == ""
    assert sparkline([0, 0], 5) == "▁▁"
    assert sparkline([9, 0, 1, 2, 4, 8], 5) == "▁▂▃▅█"


def test_intervals_as_one_reads_them():
    from datetime import timedelta

    told = {0.035: "35 ms", 2.5: "2.5 s", 180: "3 min", 4 * 3600: "4 h", 3 * 86400: "3 d"}
    assert {s: format_duration(timedelta(seconds=s)) for s in told} == told
    assert format_duration(None) == ""
