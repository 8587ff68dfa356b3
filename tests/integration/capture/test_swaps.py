"""Names that change hands: columns and tables that are swapped, dropped and made again, under the eyes of workers."""

import psycopg
import pytest

from tests.fixtures.pipelines.freshness import assert_fresh, texts_in_view
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

WORKERS = {"drain": "SELECT embed_drain()", "work": "CALL embed_work(until_empty => true)"}
SWAP = ["ALTER TABLE docs RENAME TO tmp", "ALTER TABLE other RENAME TO docs"]


@pytest.fixture
def twins(db, docs, model):
    """Pipelines on ``docs`` and ``other``, which look alike but for their texts and for row 5."""
    db.execute("CREATE TABLE other (LIKE docs INCLUDING ALL)")
    db.execute("INSERT INTO other SELECT id, title, 'other ' || id FROM docs WHERE id <> 5")
    for name in ("docs", "other"):
        db.execute("SELECT embed_create(%s, %s, columns => '{body}', model => 'loop')", (name, name))
    assert_fresh(db, "docs", 10)
    assert_fresh(db, "other", 9)
    return db


def swap_while_it_waits(db, connect, statement):
    """Swap the names of docs and other while a statement in another session waits for the lock of docs; return that."""
    user = connect(autocommit=False)
    for rename in SWAP:
        user.execute(rename)
    waiting = Background(connect(), statement)
    blocked = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'docs'::regclass"
    wait_until(lambda: not waiting.running or db.execute(blocked).fetchall(), what="a session that waits for docs")
    user.commit() if waiting.running else user.rollback()
    return waiting


def create_while_it_is_swapped(db, connect, create):
    """The creation waits for 0.2 s, in which a busy machine may not come to the commit: then once more."""
    while True:
        try:
            return swap_while_it_waits(db, connect, create).result()
        except psycopg.errors.LockNotAvailable:
            if db.execute("SELECT to_regclass('tmp')").fetchone()[0]:
                db.execute("ALTER TABLE docs RENAME TO other; ALTER TABLE tmp RENAME TO docs")


@pytest.mark.few(2)
@pytest.mark.parametrize("followed", [True, False], ids=["followed", "not followed"])
@pytest.mark.parametrize("call", WORKERS.values(), ids=WORKERS.keys())
def test_a_table_that_takes_the_sources_name_while_a_worker_waits_is_not_read(
    db, connect, twins, provider, call, followed
):
    """The swap holds the lock that the worker's reading waits for; when that wait is over, the name is another's.

    It cannot be followed at once while another session has locked the pipeline's row.
    """
    provider.reset()
    db.execute("UPDATE docs SET body = 'right ' || id")
    holder = connect(autocommit=False)
    if not followed:
        holder.execute("SELECT embed_alter('docs', '{\"max_attempts\": 7}')")
    swap_while_it_waits(db, connect, call).result()
    holder.commit()
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp() WHERE token IS NULL")
    assert_fresh(db, "docs", 10)
    assert texts_in_view(db, "docs_embedding") == sorted(f"right {i}" for i in range(1, 11))
    assert provider.sent == {f"right {i}": 1 for i in range(1, 11)}


@pytest.mark.parametrize("call", WORKERS.values(), ids=WORKERS.keys())
def test_a_first_backfill_does_not_walk_over_the_table_that_took_the_name(db, connect, docs, model, provider, call):
    db.execute("CREATE TABLE other (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO other VALUES (1000, 'other')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    swap_while_it_waits(db, connect, call).result()
    assert_fresh(db, "docs", 10)
    assert set(provider.sent) == {f"body {i}" for i in range(1, 11)}


def test_a_pipeline_is_not_created_on_the_table_that_took_the_name(db, connect, docs, model):
    """Its functions wait for the lock too, are made for the name, and then come the triggers."""
    db.execute("CREATE TABLE other (LIKE docs INCLUDING ALL)")
    create = "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')"
    with pytest.raises(psycopg.errors.UndefinedTable, match="renamed") as refused:
        create_while_it_is_swapped(db, connect, create)
    assert refused.value.diag.message_hint
    assert db.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'evergreen%'").fetchone() == (0,)
    db.execute(create)
    assert_fresh(db, "docs", 0)


def test_two_sources_that_swap_names_keep_their_own_vectors(db, connect, twins, provider):
    provider.reset()
    session = connect()
    session.execute("UPDATE docs SET n = 1; UPDATE other SET n = 1")
    with db.transaction():
        for statement in [*SWAP, "ALTER TABLE tmp RENAME TO other"]:
            db.execute(statement)
    session.execute("UPDATE docs SET body = 'edited other' WHERE id = 1")
    session.execute("UPDATE other SET body = 'edited docs' WHERE id = 5")
    session.execute("DELETE FROM docs WHERE id = 2")
    assert_fresh(db, "docs", 10)
    assert_fresh(db, "other", 8)
    assert "edited docs" in texts_in_view(db, "docs_embedding")
    assert "edited other" in texts_in_view(db, "other_embedding")
    assert provider.sent == {"edited docs": 1, "edited other": 1}
    names = db.execute("SELECT pipeline, source::text FROM embed_pipelines ORDER BY 1").fetchall()
    assert names == [("docs", "other"), ("other", "docs")]


COLUMNS = {
    "one by one": ["ALTER TABLE docs RENAME {} TO {}".format(*pair) for pair in ("at", "ba", "tb")],
    "in one transaction": [
        "BEGIN; " + "; ".join(f"ALTER TABLE docs RENAME {a} TO {b}" for a, b in ("at", "ba", "tb")) + "; COMMIT"
    ],
}


@pytest.mark.few(2)
@pytest.mark.parametrize("swap", COLUMNS.values(), ids=COLUMNS.keys())
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "at the model"])
def test_watched_columns_that_swap_names(db, connect, model, provider, swap, busy):
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, a text, b text)")
    db.execute("INSERT INTO docs VALUES (1, 'a1', 'b1'), (2, 'a2', 'b2')")
    db.execute("SELECT embed_create('docs', 'docs', template => 'A: $a B: $b', model => 'loop')")
    db.execute("SELECT embed_create('only_a', 'docs', columns => '{a}', model => 'loop')")
    session = connect()
    work = None
    if busy:
        provider.hold()
        work = Background(connect(), WORKERS["work"])
        provider.wait_for_requests()
    else:
        assert_fresh(db, "docs", 2)
        assert_fresh(db, "only_a", 2)
    for statement in swap:
        db.execute(statement)
    session.execute("UPDATE docs SET b = 'a1 edited' WHERE id = 1")
    provider.release()
    if work:
        work.result()
    assert_fresh(db, "docs", 2)
    assert_fresh(db, "only_a", 2)
    assert texts_in_view(db, "docs_embedding") == ["A: a1 edited B: b1", "A: a2 B: b2"]
    assert texts_in_view(db, "only_a_embedding") == ["a1 edited", "a2"]
    assert set(provider.sent.values()) == {1}
    assert db.execute("SELECT columns FROM embed_pipelines WHERE pipeline = 'only_a'").fetchone() == (["b"],)
