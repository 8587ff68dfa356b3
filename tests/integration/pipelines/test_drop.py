"""embed_drop leaves nothing, or the vectors as a table of the owner's."""

import pytest
from psycopg import errors

from tests.fixtures.error_checks import everything, refused
from tests.fixtures.roles import hash_model, people

pytestmark = pytest.mark.shared_database


@pytest.fixture
def alices(db, connect):
    people(db)
    hash_model(db)
    alice = connect("alice")
    alice.execute("CREATE TABLE alice.docs (id int PRIMARY KEY, body text)")
    alice.execute("INSERT INTO alice.docs SELECT i, 'body ' || i FROM generate_series(1, 5) i")
    alice.execute("SELECT embed_create('first', 'alice.docs', columns => '{body}', model => 'hash8')")
    alice.execute("SELECT embed_drop('first')")  # makes schema embed_store, which stays
    return alice


def test_nothing_is_left(db, alices):
    before = everything(db)
    alices.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain(max_rows => 3)")
    alices.execute("UPDATE alice.docs SET body = 'new'")
    alices.execute("SELECT embed_drop('docs')")
    assert everything(db) == before
    alices.execute("UPDATE alice.docs SET body = 'newer'")


def test_kept_vectors_belong_to_the_sources_owner(db, connect, alices):
    alices.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    vectors = db.execute("SELECT id, chunk, embedding::text FROM alice.docs_embedding ORDER BY id").fetchall()
    heard = []
    alices.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    alices.execute("GRANT SELECT ON alice.docs TO bob")
    alices.execute("SELECT embed_drop('docs', keep_embeddings => true)")
    table = db.execute(
        """SELECT c.oid::regclass::text FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
           WHERE c.relkind = 'r' AND r.rolname = 'alice' AND c.relname LIKE '%%kept%%'"""
    ).fetchone()[0]
    assert table in heard[-1]
    kept = alices.execute(f"SELECT k1, chunk, embedding::text FROM {table} ORDER BY k1").fetchall()
    assert kept == vectors
    with pytest.raises(errors.InsufficientPrivilege):
        connect("bob").execute(f"SELECT FROM {table}")
    alices.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8')")
    alices.execute("SELECT embed_drop('docs', keep_embeddings => true)")  # once more finds a name too
    alices.execute(f"DROP TABLE {table}")
    db.execute("DROP EXTENSION evergreen")


def test_if_exists_forgives_an_unknown_name_only(db, alices):
    alices.execute("SELECT embed_drop('nope', if_exists => true)")
    assert refused(db, "SELECT embed_drop('nope')").sqlstate == "42704"


def test_what_depends_on_the_view_is_not_dropped_in_silence(db, alices):
    alices.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8')")
    db.execute("CREATE VIEW mine AS SELECT chunk FROM alice.docs_embedding")
    assert refused(db, "SELECT embed_drop('docs')").sqlstate == "2BP01"
    db.execute("DROP VIEW mine")
    alices.execute("SELECT embed_drop('docs')")


def test_a_pipeline_whose_table_is_gone_can_be_dropped(db, alices):
    before = everything(db)
    alices.execute("CREATE TABLE alice.brief (id int PRIMARY KEY, body text)")
    alices.execute("SELECT embed_create('brief', 'alice.brief', columns => '{body}', model => 'hash8')")
    alices.execute("DROP TABLE alice.brief")
    assert db.execute("SELECT state FROM embed_status").fetchone() == ("broken",)
    db.execute("SELECT embed_drop('brief')")
    assert everything(db) == before
