"""evergreen backfill: starts one, follows it to its end, and says what is wrong."""

import json
import os
import pty
import subprocess
import sys

import pytest

from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.processes import running
from tests.fixtures.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

COMMAND = [sys.executable, "-c", "from evergreen_host.cli import main; main()", "backfill"]


@pytest.fixture
def evergreen(dsn):
    """Starts the command; returns its process."""
    started = []

    def start(*arguments, dsn=dsn):
        call = [*COMMAND, "--dsn", dsn, *arguments]
        started.append(subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def pipeline(db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    provider.reset()
    return "docs"


def begun(db):
    """Wait until it has begun, and no worker has worked on it."""
    wait_until(lambda: db.execute("SELECT backfill_progress FROM embed_status").fetchone() == (0,), what="a beginning")


def test_it_is_followed_to_its_end(db, evergreen, pipeline, provider):
    process = evergreen("docs")
    begun(db)
    drain_all(db)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "ok backfill of docs started"
    assert lines[1].startswith(".. ")
    assert "of about 10 rows" in lines[1]
    assert lines[-1] == "ok backfill complete: about 10 rows"
    assert provider.requests == []


def test_as_json_it_is_one_object(db, evergreen, pipeline):
    process = evergreen("docs", "--json")
    begun(db)
    drain_all(db)
    result = json.loads(process.communicate(timeout=30)[0])
    assert process.returncode == 0
    assert {name: result[name] for name in ("pipeline", "walked", "progress", "pending", "failed")} == {
        "pipeline": "docs", "walked": 10, "progress": 1.0, "pending": 0, "failed": 0,
    }  # fmt: skip


def test_following_starts_nothing_and_starting_need_not_follow(db, evergreen, pipeline):
    process = evergreen("docs", "--follow")
    assert process.communicate(timeout=30)[0].startswith("ok backfill complete")
    assert db.execute("SELECT count(*) FROM embed.change_log").fetchone() == (0,)
    process = evergreen("docs", "--no-wait")
    assert process.wait(30) == 0
    begun(db)


def test_what_stops_it_is_said_with_an_exit_code(db, dsn, evergreen, pipeline):
    process = evergreen("nothing")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert 'pipeline "nothing" does not exist' in err
    assert "hint: " in err
    process = evergreen("docs", dsn=dsn.replace("dbname=", "dbname=no_such_") if "dbname=" in dsn else "dbname=none")
    assert process.wait(30) == 1
    process = evergreen("docs", "--follow", "--no-wait")
    assert process.wait(30) == 2


def test_a_pipeline_that_breaks_meanwhile_ends_it(db, evergreen, pipeline):
    process = evergreen("docs")
    begun(db)
    db.execute("ALTER TABLE docs DROP COLUMN body CASCADE")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the pipeline is broken" in err


def test_on_a_terminal_it_is_a_bar(db, dsn, pipeline):
    ours, its = pty.openpty()
    with running([*COMMAND, "--dsn", dsn, "docs"], stdout=its, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(its)
        shown = bytearray()

        def shows(what):
            shown.extend(os.read(ours, 4096))
            return what in shown.decode("utf-8", "replace")

        wait_until(lambda: shows("━"), what="a bar")
        drain_all(db)
        wait_until(lambda: shows("ok backfill complete"), what="its end")
        assert process.wait(30) == 0
    os.close(ours)
