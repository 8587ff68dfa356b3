"""Vectors that are gone while the catalog says that they are there, and the other way round.

The kind: the source, the catalog and the store are three parts that a dump, a restore or a TRUNCATE can bring apart.
What is missing is seen at first contact, never called fresh, queued by a worker, and said; what was paid for is not
paid again.
"""

import psycopg
import psycopg.conninfo
import pytest

from tests.fixtures.doctor import Doctor
from tests.fixtures.dumps import create_empty, dump, restore, sessions_in
from tests.fixtures.pipelines.freshness import all_fresh, drain, verify

pytestmark = pytest.mark.slow

CHUNKS = "SELECT count(*), count(DISTINCT (document, chunk_no)) FROM embed_store.g1"
SAYS = "vectors of 10 rows are missing from embed_store.g1"


@pytest.fixture
def fresh(db, docs, model, provider):
    """A pipeline of two generations, drained; the provider's counters are at zero."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    db.execute("SELECT embed_build('docs', columns => '{title}')")
    drain(db)
    provider.reset()
    return db


@pytest.fixture
def restored(fresh, cluster, dsn, tmp_path):
    """Restore the database without some of its data: ``restored('--exclude-table-data=…')``."""

    def make(*options):
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        create_empty(cluster, "partly")
        restore(cluster, "partly", dump(cluster, name, tmp_path, "custom", *options), "custom")
        return open_one()

    with sessions_in(cluster, "partly") as open_one:
        yield make


def look(db):
    """Fresh, pending and coverage by embed_status."""
    return db.execute("SELECT fresh, pending, coverage FROM embed_status WHERE pipeline = 'docs'").fetchone()


@pytest.mark.few(1)
@pytest.mark.parametrize("what", ["embed_store.*", "embed_store.g1"])
def test_a_dump_without_vectors_is_found_out_at_first_contact(restored, provider, cluster, what):
    db = restored(f"--exclude-table-data={what}")
    fresh, pending, coverage = look(db)
    assert (fresh, pending, coverage) == (0, 10, 0)
    assert SAYS in db.execute("SELECT last_error FROM embed_status").fetchone()[0]
    assert any(SAYS in one["message"] for one in Doctor(cluster.dsn("partly")).findings("pipeline"))
    provider.reset()  # the doctor has asked the model
    assert db.execute("SELECT embed_wait('docs', timeout => '0.1 s')").fetchone() == (False,)
    heard = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    db.execute("SELECT embed_drain()")
    assert any(SAYS in one for one in heard)
    drain(db)
    assert verify(db, "docs") == all_fresh(10)
    assert look(db)[:2] == (10, 0)
    assert provider.sent == {f"body {i}": 1 for i in range(1, 11)} | (
        {f"title {i}": 1 for i in range(1, 11)} if what == "embed_store.*" else {}
    )


@pytest.mark.parametrize("how", ["CALL embed_work(until_empty => true)", "SELECT * FROM embed_claim('docs', 5)"])
def test_any_worker_comes_by_itself(restored, how):
    """Nothing waits in the restored queue: that it was restored is reason enough to look."""
    db = restored("--exclude-table-data=embed_store.*")
    db.execute(how)
    assert db.execute("SELECT embed.is_restored(1), embed.documents_without_vectors(1, 1)").fetchone() == (False, 0)


@pytest.mark.few(2)
@pytest.mark.parametrize("what", ["embed.pipeline_id_seq", "embed.*_id_seq", "embed.pipeline*", "embed.model*"])
def test_what_is_made_after_a_dump_without_numbers_gets_new_ones(restored, what):
    """Neither does it take a number that rows still have whose own row is not there: they would become its own."""
    db = restored(f"--exclude-table-data={what}")
    db.execute("SELECT embed_endpoint_set('here', 'http://127.0.0.1:1/v1')")
    db.execute("SELECT embed_model_add('h8', 'hash', 8)")
    db.execute("CREATE TABLE more (key text PRIMARY KEY, body text); INSERT INTO more VALUES ('a', 'one')")
    assert db.execute("SELECT embed_create('more', 'more', columns => '{body}', model => 'h8')").fetchone()[0] > 1
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    drain(db)
    assert db.execute("SELECT fresh, pending FROM embed_status WHERE pipeline = 'more'").fetchone() == (1, 0)
    strange = (
        "SELECT count(*) FROM embed.change_log WHERE pipeline = (SELECT id FROM embed.pipeline WHERE name = 'more')"
    )
    assert db.execute(strange).fetchone() == (0,)
    if what == "embed.model*":  # no model of another space under the number of the one that is missing
        assert db.execute("SELECT state FROM embed_status WHERE pipeline = 'docs'").fetchone() == ("broken",)


@pytest.mark.parametrize("loss", ["TRUNCATE", "DELETE FROM"])
def test_the_tally_of_documents_counts_itself(fresh, loss):
    fresh.execute(f"{loss} embed.document_count")
    assert look(fresh) == (10, 0, 1)
    fresh.execute("DELETE FROM docs WHERE id = 1; INSERT INTO docs VALUES (11, 'title 11', 'body 11'), (12, 't', 'b')")
    drain(fresh)
    assert look(fresh) == (11, 0, 1)


@pytest.mark.few(2)
@pytest.mark.parametrize("what", ["embed.document", "embed.document_id_seq", "embed.d*", "embed.cache"])
def test_a_dump_with_vectors_and_without_what_belongs_to_them(restored, provider, what):
    """Vectors that are there are used again, and stand there once."""
    db = restored(f"--exclude-table-data={what}")
    drain(db)
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1; INSERT INTO docs VALUES (11, 'title 11', 'body 11')")
    drain(db)
    assert verify(db, "docs") == all_fresh(11)
    assert db.execute(CHUNKS).fetchone() == (11, 11)
    assert db.execute("SELECT count(*) FROM docs_embedding").fetchone() == (11,)
    assert provider.sent == {"edited": 1, "body 11": 1, "title 11": 1}


LOSSES = {
    "store truncated": ("TRUNCATE embed_store.g1", 10),
    "store truncated through its parent": ("TRUNCATE embed_store.readable_1", 10),
    "documents truncated": ("TRUNCATE embed.document", 0),
    "both truncated": ("TRUNCATE embed.document, embed_store.g1, embed_store.g2", 20),
}


@pytest.mark.few(2)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_table_that_a_superuser_truncates(fresh, provider, loss):
    statement, calls = LOSSES[loss]
    fresh.execute(statement)
    assert look(fresh)[0] == 0
    assert fresh.execute("SELECT embed_wait('docs', timeout => '0.1 s')").fetchone() == (False,)
    fresh.execute("CALL embed_work(until_empty => true)")
    assert look(fresh)[:2] == (10, 0)
    assert verify(fresh, "docs") == all_fresh(10)
    assert fresh.execute(CHUNKS).fetchone() == (10, 10)
    assert provider.sent.total() == calls


def test_some_chunks_are_missing_after_a_restore(fresh, clone, provider):
    """As in a dump by a role that row security keeps from some rows. A copy of a database is looked at alike."""
    fresh.execute(
        "DELETE FROM embed_store.g1 WHERE k1 <= 3; DELETE FROM embed.document WHERE key = '[4]' AND generation = 1"
    )
    fresh.close()
    db = clone()
    assert look(db)[0] == 6
    drain(db)
    assert verify(db, "docs") == all_fresh(10)
    assert provider.sent == {f"body {i}": 1 for i in range(1, 4)}
    assert db.execute(CHUNKS).fetchone() == (10, 10)


def test_the_status_waits_for_nobody(fresh, connect):
    with connect(autocommit=False) as other:
        other.execute("LOCK TABLE embed_store.g1, embed_store.readable_1 IN ACCESS EXCLUSIVE MODE")
        fresh.execute("SET lock_timeout = '2 s'")
        assert look(fresh)[0] == 10


def test_a_store_without_its_catalog_is_said(restored, cluster):
    db = restored("--exclude-table-data=embed.*")
    doctor = Doctor(cluster.dsn("partly"))
    found = doctor.one("store")
    assert "embed_store.g1, embed_store.g2" in found["message"]
    doctor.type(found)
    assert doctor.findings("store") == []
    db.execute("SELECT embed_model_add('h8', 'hash', 8)")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'h8')")
    drain(db)
    assert verify(db, "docs") == all_fresh(10)
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'docs'::regclass AND tgname ~ '^evergreen_'"
    assert db.execute(triggers).fetchone() == (4,)  # the earlier ones logged every change, unused
