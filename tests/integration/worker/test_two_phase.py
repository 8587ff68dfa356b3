"""PREPARE TRANSACTION: changes, drains and DDL that are neither committed nor undone, for long and across a crash."""

import psycopg
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, shown, stale_keys
from tests.fixtures.pipelines.freshness import assert_fresh, drain, status

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

WORK = "CALL embed_work(until_empty => true, max_runtime => '10 s')"


@pytest.fixture(scope="module")
def server():
    """A server that takes prepared transactions."""
    with Cluster(options={"shared_preload_libraries": "", "max_prepared_transactions": 20}) as made:
        with psycopg.connect(made.dsn(), autocommit=True) as db:
            db.execute("CREATE EXTENSION evergreen CASCADE")
        yield made


@pytest.fixture
def session(server):
    """Opens sessions, also after a crash."""
    opened = []

    def open_one():
        opened.append(psycopg.connect(server.dsn(), autocommit=True))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def db(server, session, provider):
    """Two drained pipelines."""
    db = session()
    provider.register(db)
    for name in ("docs", "other"):
        db.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, title text, body text)")
        db.execute(f"INSERT INTO {name} SELECT i, 'title', '{name} ' || i FROM generate_series(1, 10) i")
        db.execute(f"SELECT embed_create('{name}', '{name}', columns => '{{title,body}}', model => 'loop')")
    drain_all(db)
    provider.reset()
    yield db
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        for (name,) in admin.execute("SELECT gid FROM pg_prepared_xacts").fetchall():
            admin.execute(f"ROLLBACK PREPARED '{name}'")
        for (name,) in admin.execute("SELECT pipeline FROM embed_pipelines").fetchall():
            admin.execute("SELECT embed_drop(%s)", (name,))
        admin.execute("DROP TABLE IF EXISTS docs, papers, other; SELECT embed_model_drop('loop')")


def prepare(session, name, *statements):
    """Do something in a transaction and prepare it; return its id."""
    session.execute("BEGIN")
    for statement in statements:
        session.execute(statement)
    number = int(session.execute("SELECT pg_current_xact_id()::text").fetchone()[0])
    session.execute(f"PREPARE TRANSACTION '{name}'")
    return number


def floor(db):
    return int(db.execute("SELECT i.scan_start::text FROM embed.change_log_state i JOIN embed.pipeline p"
                          " ON p.id = i.pipeline WHERE p.name = 'docs'").fetchone()[0])  # fmt: skip


CHANGES = (
    "UPDATE docs SET body = 'prepared' WHERE id = 1",
    "DELETE FROM docs WHERE id = 2",
    "INSERT INTO docs VALUES (11, 'title', 'inserted')",
    "UPDATE docs SET id = 30 WHERE id = 3",
    "SAVEPOINT inner_one",
    "UPDATE docs SET body = 'never' WHERE id = 4",
    "ROLLBACK TO inner_one",
)


@pytest.mark.few(1)
@pytest.mark.parametrize("crash", [False, True], ids=["running on", "after a crash"])
def test_prepared_changes_wait_and_are_not_lost(server, session, db, provider, crash):
    """Workers read the log up to them and on, again and again, while they are in doubt."""
    oldest = prepare(db, "kept", *CHANGES)
    prepare(db, "undone", "UPDATE docs SET body = 'undone' WHERE id IN (5, 6)", "DELETE FROM docs WHERE id = 7")
    for number in range(4):
        if crash and number == 2:
            server.restart("immediate")
            db = session()
        db.execute("UPDATE docs SET body = %s WHERE id > 7 AND id < 11", (f"pass {number}",))
        db.execute(WORK)
        assert drain_once(db) == 0
        assert [shown(db)[key][0] for key in (8, 9, 10)] == [f"title\n\npass {number}"] * 3
        assert floor(db) <= oldest
    assert stale_keys(db) == []
    db.execute("COMMIT PREPARED 'kept'")
    db.execute("ROLLBACK PREPARED 'undone'")
    db.execute(WORK)
    assert_as_source(db)
    assert shown(db)[1][0] == "title\n\nprepared"
    wanted = {"title\n\nprepared", "title\n\ninserted"} | {f"title\n\npass {n}" for n in range(4)}
    assert set(provider.sent) == wanted
    assert set(provider.sent.values()) == {1}
    db.execute("UPDATE docs SET body = 'last' WHERE id = 8")
    db.execute(WORK)
    db.execute("UPDATE docs SET body = 'very last' WHERE id = 8")
    db.execute(WORK)
    assert floor(db) > oldest, "the scan start must advance once no transaction is in doubt"


@pytest.mark.parametrize(
    ("end", "crash"), [("ROLLBACK", False), ("COMMIT", True)], ids=["undone", "committed after a crash"]
)
def test_a_prepared_drain_holds_its_keys_and_nothing_else(server, session, db, provider, end, crash):
    db.execute("UPDATE docs SET body = 'drained' WHERE id <= 3")
    session_of_drain = session()
    prepare(session_of_drain, "drain", "SELECT embed_drain()")
    if crash:
        server.restart("immediate")
        db = session()
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 4")
    db.execute("UPDATE other SET body = 'edited' WHERE id = 4")
    drain_all(db)
    assert [shown(db, name)[4][0] for name in ("docs", "other")] == ["title\n\nedited"] * 2
    assert stale_keys(db) == [1, 2, 3]
    db.execute("UPDATE docs SET body = 'edited, too' WHERE id = 1")
    drain_once(db)
    db.execute(f"{end} PREPARED 'drain'")
    db.execute(WORK)
    assert_as_source(db)
    assert_as_source(db, "other")
    assert provider.sent["title\n\ndrained"] == (1 if end == "COMMIT" else 2)


@pytest.mark.few(1)
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_prepared_ddl_stops_its_own_pipeline_only(session, db, provider, end):
    prepare(
        session(),
        "ddl",
        "UPDATE docs SET body = 'before' WHERE id = 1",
        "ALTER TABLE docs RENAME body TO content",
        "ALTER TABLE docs RENAME TO papers",
        "UPDATE papers SET content = 'after' WHERE id = 2",
    )
    db.execute("ALTER TABLE other RENAME body TO words")
    db.execute("UPDATE other SET words = 'edited' WHERE id = 1")
    drain(db)
    assert_fresh(db, "other", 10)
    assert status(db, "docs").state == "active"
    db.execute(f"{end} PREPARED 'ddl'")
    assert_fresh(db, "docs", 10)
    assert (provider.sent["title\n\nbefore"], provider.sent["title\n\nafter"]) == (
        (1, 1) if end == "COMMIT" else (0, 0)
    )


def test_calls_of_the_api_may_be_prepared(session, db):
    """None of them leaves a temporary table, a session's lock or a notification in the transaction."""
    db.execute("CREATE TABLE papers (id int PRIMARY KEY, body text); INSERT INTO papers VALUES (1, 'one')")
    create = "SELECT embed_create('papers', 'papers', columns => '{body}', model => 'loop')"
    prepare(session(), "create", create, "SELECT embed_drain('papers')", "UPDATE papers SET body = 'two'")
    assert db.execute("SELECT count(*) FROM embed_pipelines").fetchone() == (2,)
    db.execute("UPDATE other SET body = 'meanwhile' WHERE id = 1")
    drain(db)
    db.execute("COMMIT PREPARED 'create'")
    assert_fresh(db, "papers", 1)
    calls = [
        "SELECT embed_touch('docs', '[1]')",
        "SELECT embed_verify('docs', true)",
        "SELECT embed_alter('docs', '{\"max_attempts\": 7}')",
        "SELECT embed_pause('docs')",
        "SELECT embed_search('other', 'x')",
        "SELECT embed_drop('papers')",
    ]
    prepare(session(), "calls", *calls)
    drain(db)
    assert_fresh(db, "other", 10)
    db.execute("COMMIT PREPARED 'calls'")
    assert db.execute("SELECT pipeline, state FROM embed_pipelines ORDER BY 1").fetchall() == [
        ("docs", "paused"),
        ("other", "active"),
    ]
    db.execute("SELECT embed_resume('docs')")
    assert_fresh(db, "docs", 10)
