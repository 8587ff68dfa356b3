"""embed_verify(repair) and workers: neither waits for the other, also where the one's transaction stays open."""

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, stale_keys, verified
from tests.fixtures.stress import left
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

REPAIR = "SELECT * FROM embed_verify('docs', repair => true)"
CALLS = {
    "drain": "SELECT embed_drain()",
    "work": "CALL embed_work(max_runtime => '20 s')",
}


def spoil(db):
    """What is recorded of row 1 is not what it was made from."""
    db.execute("UPDATE embed.document SET fingerprint = '\\x00' WHERE key = '[1]'")


@pytest.mark.few(2)
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("call", CALLS)
def test_an_open_repair_keeps_only_its_own_rows_from_workers(connect, db, pipeline, provider, call, end):
    """Row 1 is repaired and edited in one go; rows 2 to 4 are edited in the same batch."""
    spoil(db)
    repairing = connect()
    repairing.execute("BEGIN")
    assert dict(repairing.execute(REPAIR).fetchall())["mixed"] == 1
    db.execute("UPDATE docs SET body = 'edited ' || id WHERE id <= 4")
    session = connect()
    work = Background(session, CALLS[call])
    if call == "drain":
        assert work.result() == [(3,)]
    else:
        wait_until(lambda: stale_keys(db) == [1], what="the others' turn")
    repairing.execute(end)
    if call == "drain":
        drain_all(db)
    wait_until(lambda: stale_keys(db) == [], what="the turn of the row that was held")
    session.cancel()
    drain_all(db)
    assert_as_source(db)
    assert left(db) == {}
    assert provider.sent.total() == 4


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_repair_does_not_wait_for_an_open_drain(connect, db, pipeline, provider, end):
    """It repairs the others; of the drain's rows it says that it may have to come again."""
    db.execute("UPDATE embed.document SET fingerprint = '\\x00' WHERE key IN ('[1]', '[2]')")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    draining = connect()
    draining.execute("BEGIN")
    assert drain_once(draining) == 1
    heard = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    db.execute(REPAIR)
    assert heard == ["1 row that another session is writing may not be repaired"]
    draining.execute(end)
    drain_all(db)
    assert heard[1:] == []
    db.execute(REPAIR)
    drain_all(db)
    assert_as_source(db)
    assert verified(db)["fresh"] == 10
    assert provider.sent == {"title 1\n\nedited": 1 if end == "COMMIT" else 2}
