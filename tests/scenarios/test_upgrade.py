"""ALTER EXTENSION evergreen UPDATE: the same catalog as a fresh installation, and all work continues."""

import json
from itertools import count

import psycopg
import psycopg.conninfo
import pytest

from evergreen_host.packaging import dist
from tests.fixtures.catalog import described
from tests.fixtures.dumps import dump, restore
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, verified
from tests.fixtures.releases import installed, versions

_numbers = count(1)


@pytest.fixture(scope="module", params=versions())
def old(request, cluster, tmp_path_factory):
    """An earlier version, installed beside this one."""
    version = request.param
    with installed(cluster.postgres, version, dist.version(), tmp_path_factory.mktemp("release")):
        yield version


@pytest.fixture
def older(cluster, old):
    """The DSN of a database with the earlier version of the extension."""
    name = f"upgraded_{next(_numbers)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        with psycopg.connect(cluster.dsn(name), autocommit=True) as db:
            db.execute(f"CREATE EXTENSION evergreen VERSION '{old}' CASCADE")
        yield cluster.dsn(name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def open_session(dsn):
    return psycopg.connect(dsn, autocommit=True)


def differences(one, other):
    """What is in one description and not in the other, by part."""
    return {
        part: [row for row in one[part] if row not in other[part]]
        + [row for row in other[part] if row not in one[part]]
        for part in one
        if one[part] != other[part]
    }


def test_the_catalog_is_that_of_a_fresh_installation(older, db):
    with open_session(older) as session:
        session.execute("ALTER EXTENSION evergreen UPDATE")
        assert differences(described(session), described(db)) == {}


@pytest.fixture
def lively(older, provider):
    """Pipelines with all sorts of work that waits, made by the earlier version."""
    with open_session(older) as db:
        provider.register(db)
        for name in ("docs", "papers", "sleepers"):
            db.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, title text, body text)")
            db.execute(f"INSERT INTO {name} SELECT i, '{name} ' || i, 'body ' || i FROM generate_series(1, 10) i")
            db.execute(f"SELECT embed_create('{name}', '{name}', columns => '{{title,body}}', model => 'loop')")
        drain_all(db)
        provider.answer = lambda texts: (400, b"no") if any("poison" in text for text in texts) else None
        db.execute("UPDATE docs SET body = 'poison' WHERE id = 1")
        drain_all(db)
        db.execute("SELECT embed_pause('sleepers')")
        db.execute("SELECT embed_build('papers', columns => '{title}')")
        db.execute("SELECT embed_drain('papers', max_rows => 5)")
        db.execute("UPDATE docs SET body = 'edited before' WHERE id IN (2, 3)")
        db.execute("SELECT embed_drain('docs', max_rows => 1)")
        db.execute("DELETE FROM docs WHERE id = 4; UPDATE sleepers SET body = 'edited before' WHERE id = 5")
    provider.reset()
    return older


def test_pipelines_and_work_that_waits_go_on(lively, provider):
    with open_session(lively) as db:
        db.execute("ALTER EXTENSION evergreen UPDATE")
    with open_session(lively) as db:
        db.execute("UPDATE docs SET body = 'edited after' WHERE id = 6")
        db.execute("SELECT embed_resume('sleepers')")
        assert db.execute("SELECT failed FROM embed_status WHERE pipeline = 'docs'").fetchone() == (1,)
        drain_all(db)
        db.execute("SELECT embed_promote('papers'); SELECT embed_rollback('papers')")
        for name in ("papers", "sleepers"):
            assert_as_source(db, name)
            assert verified(db, name)["fresh"] == 10
        db.execute("SELECT embed_retry('docs'); UPDATE docs SET body = 'good now' WHERE id = 1")
        drain_all(db)
        assert_as_source(db)
        assert verified(db)["fresh"] == 9
        figures = db.execute("SELECT rows, fresh, pending, failed FROM embed_status ORDER BY pipeline").fetchall()
        assert figures == [(9, 9, 0, 0), (10, 10, 0, 0), (10, 10, 0, 0)]
    assert max(provider.sent.values()) == 1
    assert not any(text.startswith("papers") and "body" in text for text in provider.sent), "those were embedded before"


def test_what_the_built_in_model_embedded_stays_fresh(older):
    with open_session(older) as db:
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
        db.execute(
            "INSERT INTO docs VALUES (1, 'The quick brown fox'), (2, ''), (3, E'jumps  over\n the dog '), (4, '<s>')"
        )
        db.execute("SELECT embed_create('docs', 'docs', columns => '{body}')")
        drain_all(db)
        before = vectors_of_docs(db)
        db.execute("ALTER EXTENSION evergreen UPDATE")
    with open_session(older) as db:
        sent = db.execute("SELECT sum(texts) FROM embed_usage").fetchone()
        db.execute("SELECT embed_backfill('docs')")
        drain_all(db)
        assert verified(db)["fresh"] == 4
        assert db.execute("SELECT sum(texts) FROM embed_usage").fetchone() == sent
        assert vectors_of_docs(db) == before
        db.execute("UPDATE docs SET body = '-' || body")
        drain_all(db)
        db.execute("SELECT embed_setting('cache_retention', '0')")
        db.execute("DELETE FROM embed.cache")
        db.execute("UPDATE docs SET body = substr(body, 2)")
        drain_all(db)
        again = vectors_of_docs(db)
    assert again.keys() == before.keys()
    for key, vector in before.items():
        assert again[key] == pytest.approx(vector, abs=1e-6)


def vectors_of_docs(db):
    """Return the vectors of table docs by key."""
    return {key: json.loads(found) for key, found in db.execute("SELECT id, embedding::text FROM docs_embedding")}


def test_sessions_that_were_open_go_on_or_are_told_to_reconnect(lively):
    with open_session(lively) as writer, open_session(lively) as worker, open_session(lively) as admin:
        writer.execute("UPDATE docs SET body = 'edited' WHERE id = 7")
        drain_once(worker)
        admin.execute("ALTER EXTENSION evergreen UPDATE")
        writer.execute("UPDATE docs SET body = 'edited again' WHERE id = 7")
        assert writer.execute("SELECT is_stale FROM docs_embedding WHERE id = 7").fetchone() == (True,)
        with pytest.raises(psycopg.Error, match="reconnect"):
            worker.execute("SELECT embed_drain()")
    with open_session(lively) as worker:
        drain_all(worker)
        assert worker.execute("SELECT is_stale FROM docs_embedding WHERE id = 7").fetchone() == (False,)


def test_a_dump_of_the_earlier_version_is_restored_into_this_one(cluster, lively, provider, tmp_path):
    """As into a server where only the new version is installed: CREATE EXTENSION takes the default."""
    name = psycopg.conninfo.conninfo_to_dict(lively)["dbname"]
    file = dump(cluster, name, tmp_path, "custom")
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}_restored")
    restore(cluster, f"{name}_restored", file, "custom")
    with open_session(cluster.dsn(f"{name}_restored")) as db:
        assert db.execute("SELECT extversion FROM pg_extension WHERE extname = 'evergreen'").fetchone() == (
            dist.version(),
        )
        db.execute("SELECT embed_resume('sleepers')")
        db.execute("UPDATE docs SET body = 'good now' WHERE id = 1")
        drain_all(db)
        for table in ("docs", "papers", "sleepers"):
            assert_as_source(db, table)
    assert max(provider.sent.values()) == 1
    assert sum(provider.sent.values()) <= 9, "what was embedded before the dump is not embedded again"
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name}_restored WITH (FORCE)")


def test_a_view_that_calls_a_search_is_named_and_nothing_is_changed(older):
    with open_session(older) as session:
        session.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
        session.execute("SELECT embed_create('docs', 'docs', columns => '{body}')")
        session.execute("CREATE VIEW mine AS SELECT * FROM embed_search('docs', 'question')")
        with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="embed_search") as caught:
            session.execute("ALTER EXTENSION evergreen UPDATE")
        assert "view public.mine depends" in str(caught.value)
        session.execute("DROP VIEW mine; ALTER EXTENSION evergreen UPDATE")
        session.execute("CREATE VIEW mine AS SELECT * FROM embed_search('docs', 'question')")
