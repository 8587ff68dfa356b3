"""Writers never wait for workers."""

import pytest

from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

STATEMENTS = {
    "update": "UPDATE docs SET body = 'changed' WHERE id = 1",
    "delete": "DELETE FROM docs WHERE id = 2",
    "key change": "UPDATE docs SET id = 99 WHERE id = 3",
    "alter": "ALTER TABLE docs ADD COLUMN extra int",
    "alter type": "ALTER TABLE docs ALTER COLUMN n TYPE bigint",
    "truncate": "TRUNCATE docs",
}


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("worker", "level"),
    [
        ("SELECT embed_drain()", "read committed"),
        ("SELECT embed_drain()", "serializable"),
        ("CALL embed_work(until_empty => true)", "repeatable read"),
        ("CALL embed_work(until_empty => true)", "serializable"),
    ],
)
def test_writers_commit_while_the_model_works(connect, db, docs, model, provider, worker, level):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.hold()
    work = Background(connect(), worker)
    provider.wait_for_requests()
    writer = connect(options="-c statement_timeout=5000")
    writer.execute(f"SET default_transaction_isolation = '{level}'")
    for statement in STATEMENTS.values():
        writer.execute(statement)
    assert work.running  # every write came back before the model was released
    provider.release()
    work.result()
    db.execute("SELECT embed_drain()")
    assert dict(db.execute("SELECT * FROM embed_verify('docs')").fetchall()) == {
        "fresh": 0, "stale": 0, "missing": 0, "orphan": 0, "mixed": 0
    }  # fmt: skip


def test_no_snapshot_is_held_while_the_model_works(connect, db, docs, model, provider):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()

    def horizon():
        row = db.execute(
            "SELECT backend_xmin, backend_xid FROM pg_stat_activity WHERE pid = %s", (work.pid,)
        ).fetchone()
        return row == (None, None)

    wait_until(horizon, what="no snapshot and no transaction")
    provider.release()
    work.result()
