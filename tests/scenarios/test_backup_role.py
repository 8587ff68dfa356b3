"""A nightly pg_dump by a role with only pg_read_all_data.

The kind: tools that read every table whole, with row_security off, by a role that row security applies to. What
evergreen adds must not fail them, and must give them no more of the source's texts than the source itself does.
"""

import subprocess

import psycopg
import psycopg.conninfo
import pytest

from tests.fixtures.dumps import create_empty, dump_as, restore
from tests.fixtures.pipelines.freshness import all_fresh, drain, verify
from tests.fixtures.roles import hash_model, people

SECRET = "body 7"


@pytest.fixture
def backup(db):
    """A role for backups, and a pipeline with two generations on a table of alice's."""
    people(db)
    hash_model(db)
    db.execute(
        """
        DO $$ BEGIN IF to_regrole('backup') IS NULL THEN CREATE ROLE backup LOGIN; END IF; END $$;
        GRANT pg_read_all_data TO backup;
        CREATE TABLE alice.docs (id int PRIMARY KEY, title text, body text);
        ALTER TABLE alice.docs OWNER TO alice;
        INSERT INTO alice.docs SELECT i, 'title', 'body ' || i FROM generate_series(1, 10) i;
        SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8');
        SELECT embed_build('docs', columns => '{title,body}');
        """
    )
    drain(db)
    return "backup"


def hide_a_row(db):
    db.execute("ALTER TABLE alice.docs ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON alice.docs USING (id <> 7)")


def test_the_dump_of_a_backup_role_restores_whole(db, backup, cluster, dsn, tmp_path):
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    dumped = dump_as(backup, cluster, name, tmp_path)
    create_empty(cluster, "nightly")
    try:
        restore(cluster, "nightly", dumped, "custom")
        with psycopg.connect(cluster.dsn("nightly"), autocommit=True) as restored:
            assert verify(restored, "docs") == all_fresh(10)
            assert restored.execute("SELECT count(*) FROM alice.docs_embedding").fetchone() == (10,)
    finally:
        with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
            admin.execute("DROP DATABASE nightly WITH (FORCE)")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_dump_has_no_text_of_a_row_that_the_source_hides(db, backup, cluster, dsn, tmp_path, when):
    """Row security on the source, there before the pipeline or put on later, also without a worker in between."""
    if when == "before":
        db.execute("SELECT embed_drop('docs')")
        hide_a_row(db)
        db.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8')")
        drain(db)
    else:
        hide_a_row(db)
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    text = dump_as(backup, cluster, name, tmp_path, "--format", "plain", "--enable-row-security").read_text()
    assert SECRET not in text
    assert "body 6" in text
    with pytest.raises(subprocess.CalledProcessError):  # as the source itself
        dump_as(backup, cluster, name, tmp_path)
    db.execute("ALTER TABLE alice.docs DISABLE ROW LEVEL SECURITY")
    dump_as(backup, cluster, name, tmp_path)


def test_readers_come_through_row_security_whatever_the_source_has(db, connect, backup):
    """The table itself is closed to them while it has none; where it cannot be had just now, nothing opens."""
    db.execute("GRANT SELECT ON alice.docs TO bob; GRANT USAGE ON SCHEMA embed_store TO bob")
    bob = connect("bob")
    assert len(bob.execute("SELECT FROM alice.docs_embedding").fetchall()) == 10
    assert len(bob.execute("SELECT FROM embed_store.readable_1").fetchall()) == 10
    for statement in ("SELECT FROM embed_store.g1", "SELECT FROM embed_store.g2"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bob.execute(statement)
    with connect(autocommit=False) as other:
        other.execute("LOCK TABLE embed_store.g1 IN SHARE ROW EXCLUSIVE MODE")
        hide_a_row(db)
        assert len(bob.execute("SELECT FROM alice.docs_embedding").fetchall()) == 9
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bob.execute("SELECT FROM embed_store.g1")
    drain(db)
    assert len(bob.execute("SELECT FROM embed_store.g1").fetchall()) == 9


def test_statistics_of_the_store_are_hidden_from_readers(db, connect, backup):
    db.execute("GRANT SELECT ON alice.docs TO bob; ANALYZE embed_store.g1; ANALYZE embed_store.readable_1")
    seen = "SELECT tablename, attname FROM pg_stats WHERE schemaname = 'embed_store'"
    assert connect("bob").execute(seen).fetchall() == []
    kept = "SELECT count(*) FROM pg_statistic WHERE starelid = 'embed_store.readable_1'::regclass"
    assert db.execute(kept).fetchone() == (0,)
