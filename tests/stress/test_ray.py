"""`evergreen ray`: compute on a local Ray cluster of several processes, one of which is killed."""

import os
import signal
import subprocess
import sys

import pytest

from evergreen_host.compute.embedder import Embedded, Embedder, ModelFailedError, Settings, format_vector, load
from evergreen_host.compute.openai import URL, factory
from tests.fixtures.external_compute import claim
from tests.fixtures.paths import PROJECT
from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.stress import left, make_docs
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.stress


FUNCTIONS = "tests.fixtures.ray_embedders"


@pytest.fixture
def ray(dsn, tmp_path):
    """Starts `evergreen ray` with a function of ray_embedders.py."""
    started = []

    def start(embed, *options):
        code = "import sys; from evergreen_host.cli import main; sys.argv[0] = 'evergreen'; main()"
        given = ["ray", "--dsn", dsn, "--pipeline", "docs", "--embed", f"{FUNCTIONS}:{embed}", *options]
        environment = os.environ | {
            "PYTHONPATH": str(PROJECT), "EVERGREEN_NOTES": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *given], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_actors_embed_and_one_that_is_killed_costs_only_time(db, model, provider, ray, tmp_path):
    texts = make_docs(db, 200)
    (tmp_path / "hold").touch()
    command = ray("noting", "--actors", "3", "--cpus", "0", "--batch", "20", "--lease", "5 s", "--until-empty")
    busy = wait_until(lambda: len(found := [*tmp_path.glob("busy *")]) == 3 and found, timeout=120, what="three actors")
    os.kill(victim := int(busy[0].name.split()[1]), signal.SIGKILL)
    (tmp_path / "hold").unlink()
    said = command.communicate(timeout=120)[0].decode()
    assert command.returncode == 0, said
    assert "an actor died" in said
    notes = [(path, line) for path in tmp_path.glob("done *") for line in path.read_text().splitlines()]
    assert len({path for path, _ in notes}) >= 2  # the others, and perhaps its successor
    assert f"done {victim}" not in {path.name for path, _ in notes}
    assert sorted(line for _, line in notes) == sorted(repr(text) for text in texts)  # each once
    assert_as_source(db)
    assert left(db) == {}
    assert provider.sent.total() == 0
    assert db.execute("SELECT sum(texts) FROM embed_usage").fetchone() == (len(texts),)


def settings(dsn, embed, **options):
    return Settings(dsn, "docs", f"{FUNCTIONS}:{embed}", until_empty=True, **{"batch": 50, **options})


def test_a_text_that_fails_is_found_and_its_row_alone_waits(dsn, db, model):
    make_docs(db, 60)
    db.execute("UPDATE docs SET body = 'poison' WHERE id = 41")
    assert Embedder(settings(dsn, "poisoned")).run() > 0
    waiting = db.execute("SELECT key, attempts > 0, last_error FROM embed.job").fetchall()
    assert waiting == [([41], True, "ValueError: cannot embed this")]
    db.execute("DELETE FROM docs WHERE id = 41")
    assert Embedder(settings(dsn, "poisoned")).run() == 0
    assert_as_source(db)


def test_where_nothing_passes_no_row_is_to_blame(dsn, db, model, monkeypatch):
    make_docs(db, 60)
    monkeypatch.setattr("evergreen_host.compute.embedder._MAX_FAILURES", 2)
    with pytest.raises(ModelFailedError, match="no GPU here"):
        Embedder(settings(dsn, "broken")).run()
    assert db.execute("SELECT max(attempts), count(token) FROM embed.job").fetchone() == (0, 0)
    assert claim(db) != []


def test_a_connection_that_is_lost_comes_back(dsn, db, model, connect):
    make_docs(db, 60)
    embedder = Embedder(settings(dsn, "poisoned", batch=5))
    embedder._queue.claim(1)
    db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
               " AND pid <> pg_backend_pid()")  # fmt: skip
    assert embedder.run() > 0


def test_a_server_that_speaks_as_openai_does(provider, monkeypatch):
    monkeypatch.setenv(URL, provider.url)
    found = factory("any")(["one", "two"])
    assert isinstance(found, Embedded)
    assert [len(vector) for vector in found.vectors] == [8, 8]
    assert found.tokens is not None
    assert provider.sent.total() == 2


def test_what_cannot_be_imported(monkeypatch):
    for name in ("", FUNCTIONS, f"{FUNCTIONS}:nope", "no_such_module:x"):
        with pytest.raises(LookupError, match=r"module:factory"):
            load(name)
    monkeypatch.delenv(URL, raising=False)
    with pytest.raises(LookupError, match=URL):
        factory("any")
    assert format_vector((1, 2.5)) == "[1.0,2.5]"
