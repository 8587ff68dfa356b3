"""Documents of new rows are inserted by COPY; what COPY cannot do is done by an upsert."""

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, verified
from tests.fixtures.stress import left

WORK = "CALL embed_work(until_empty => true)"
RIVAL = """
INSERT INTO embed.document (generation, key, fingerprint, src_hash, chunks, changed_at, embedded_at)
VALUES (1, '[3]', '', '', 0, now(), now())
"""


@pytest.mark.parametrize("call", [WORK, "SELECT embed_drain()"])
def test_a_document_that_came_since_the_row_was_read(db, docs, model, provider, stoppable, call):
    """The unique violation undoes the COPY, not the batch."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    stop = stoppable()
    assert stop.parked(call, "reserve_document_ids")
    db.execute(RIVAL)
    done = stop.let_go()
    assert done == [(10,)] or (call == WORK and "abandon" not in stop.commits())
    drain_all(db)
    assert_as_source(db)
    assert verified(db)["fresh"] == 10
    assert left(db) == {}
    assert provider.sent == dict.fromkeys(provider.sent, 1)


def test_documents_that_are_copied_are_those_that_are_upserted(db, docs, model, stoppable):
    """With the time of the change, and ids of the sequence."""
    shown = "SELECT key, fingerprint, src_hash, chunks, changed_at <= embedded_at FROM embed.document ORDER BY key"
    found = []
    for query in ("copy_documents", "upsert_documents"):
        db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
        stop = stoppable()
        if query == "upsert_documents":
            stop.session.execute(
                "DO LANGUAGE plpython3u 'from evergreen.storage import new_documents;"
                " new_documents.insert = lambda claim, documents: None'"
            )
        assert stop.parked("SELECT embed_drain()", query)
        stop.let_go()
        found.append(db.execute(shown).fetchall())
        assert db.execute("SELECT count(DISTINCT id) FROM embed.document").fetchone() == (10,)
        late = "SELECT max(embedded_at) < clock_timestamp() AND min(changed_at) > clock_timestamp() - interval '5 min'"
        assert db.execute(f"{late} FROM embed.document").fetchone() == (True,)
        assert db.execute(
            "SELECT max(id) <= (SELECT last_value FROM embed.document_id_seq) FROM embed.document"
        ).fetchone() == (True,)
        db.execute("SELECT embed_drop('docs')")
    assert found[0] == found[1]
