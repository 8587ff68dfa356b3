"""A pipeline finds its table and view by name in another database.

The kind: an oid means nothing elsewhere, and a name may be missing there. A row that names a missing table must be
readable all the same (a restore, a subscriber), wait for that table, and never take another one.
"""

import subprocess

import psycopg
import pytest

from tests.fixtures.doctor import Doctor
from tests.fixtures.dumps import create_empty, sessions_in, verified
from tests.fixtures.pipelines.freshness import assert_fresh, status
from tests.fixtures.roles import hash_model

CREATE = "SELECT embed_create(%s, %s, columns => '{body}', model => 'hash8')"
GONE = "its table public.other is not in this database"


@pytest.fixture
def two(db):
    """Pipelines docs and other on tables of these names, both fresh."""
    hash_model(db)
    for table in ("docs", "other"):
        db.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, body text)")
        db.execute(f"INSERT INTO {table} VALUES (1, 'one of {table}'), (2, 'two')")
        db.execute(CREATE, (table, table))
        assert_fresh(db, table, 2)
    return db


@pytest.fixture
def restored(cluster, dsn, tmp_path):
    """Restores a dump of the test's database into an empty one."""
    create_empty(cluster, "restored")

    def restore(*options, steps=((),)):
        dumped = tmp_path / "dump"
        run(cluster, "pg_dump", "--format", "custom", *options, "--file", dumped, "-d", dsn)
        for step in steps:
            run(cluster, "pg_restore", "--exit-on-error", *step, "-d", cluster.dsn("restored"), dumped)
        return open_one()

    with sessions_in(cluster, "restored") as open_one:
        yield restore


def run(cluster, program, *args):
    done = subprocess.run([cluster.bin(program), *args], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def names(db):
    return db.execute("SELECT name, source_name, view_name FROM embed.pipeline ORDER BY id").fetchall()


def work(db):
    db.execute("CALL embed_work(until_empty => true)")


def test_a_dump_without_a_table_restores_the_other_pipelines(two, cluster, restored):
    there = restored("--exclude-table=other", "--exclude-table=other_embedding")
    work(there)
    assert verified(there, "docs") == {"fresh": 2}
    found = there.execute("SELECT state, last_error FROM embed_status WHERE pipeline = 'other'").fetchone()
    assert (found[0], GONE in found[1], "embed_drop('other')" in found[1]) == ("broken", True, True)
    told = there.execute("SELECT source::text, view, state FROM embed_pipelines WHERE pipeline = 'other'").fetchone()
    assert told == ("-", None, "broken")
    assert [GONE in f["message"] for f in Doctor(cluster.dsn("restored")).findings("pipeline")] == [True]
    for call in (
        "SELECT embed_search('other', 'x')",
        "SELECT * FROM embed_verify('other')",
        "SELECT embed_wait('other')",
    ):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=GONE) as caught:
            there.execute(call)
        assert "restore or create that table" in (caught.value.diag.message_hint or "").lower()
    there.execute("SELECT embed_drop('other')")
    assert names(there) == [("docs", "public.docs", "public.docs_embedding")]
    assert status(there, "docs").fresh == 2


def test_a_table_that_comes_later_is_taken_and_checked(two, restored):
    there = restored("--exclude-table=other", "--exclude-table=other_embedding")
    work(there)
    there.execute("CREATE TABLE other (id int PRIMARY KEY, body text)")
    there.execute("INSERT INTO other VALUES (1, 'one of other'), (3, 'three')")
    work(there)
    assert verified(there, "other") == {"fresh": 2}
    there.execute("UPDATE other SET body = 'edited' WHERE id = 1")
    work(there)
    assert there.execute("SELECT state FROM embed_status WHERE pipeline = 'other'").fetchone() == ("active",)
    assert verified(there, "other") == {"fresh": 2}


@pytest.mark.few(2)
@pytest.mark.parametrize("rename", ["table", "schema", "swap", "view", "broken"])
def test_a_dump_right_after_a_rename_has_the_new_name(two, restored, rename):
    """No worker has run in between; in a swap, the old name is that of another table."""
    ddl, expected = {
        "table": ("ALTER TABLE docs RENAME TO papers", ("public.papers", "public.docs_embedding")),
        "schema": (
            "CREATE SCHEMA app; ALTER TABLE docs SET SCHEMA app; ALTER SCHEMA app RENAME TO moved",
            ("moved.docs", "public.docs_embedding"),
        ),
        "swap": (
            "ALTER TABLE docs RENAME TO old; CREATE TABLE docs (id int PRIMARY KEY, body text)",
            ("public.old", "public.docs_embedding"),
        ),
        "view": ("ALTER VIEW docs_embedding RENAME TO found", ("public.docs", "public.found")),
        "broken": (
            "ALTER TABLE docs DROP COLUMN body CASCADE; ALTER TABLE docs RENAME TO papers",
            ("public.papers", "public.docs_embedding"),
        ),
    }[rename]
    two.execute(ddl)
    assert names(two)[0] == ("docs", *expected)
    there = restored()
    work(there)
    told = there.execute(
        "SELECT embed.qualified_name(source::oid), embed.qualified_name(view::oid), state FROM embed_pipelines"
        " WHERE pipeline = 'docs'"
    ).fetchone()
    assert told == (*expected, "broken" if rename == "broken" else "active")
    if rename != "broken":
        assert verified(there, "docs") == {"fresh": 2}


def test_a_rename_that_no_event_trigger_saw_is_noticed(two):
    two.execute("SET session_replication_role = replica; ALTER VIEW docs_embedding RENAME TO found")
    two.execute("ALTER TABLE docs RENAME TO papers; RESET session_replication_role")
    two.execute("SELECT embed.record_names()")
    assert names(two)[0] == ("docs", "public.papers", "public.found")
    work(two)
    assert verified(two, "docs") == {"fresh": 2}


def test_a_locked_row_of_the_catalog_does_not_hold_a_rename_up(two, dsn):
    with psycopg.connect(dsn) as other:
        other.execute("SELECT FROM embed.pipeline WHERE name = 'docs' FOR UPDATE")
        two.execute("SET statement_timeout = '5s'; ALTER TABLE docs RENAME TO papers; RESET statement_timeout")
    work(two)
    assert names(two)[0] == ("docs", "public.papers", "public.docs_embedding")
    assert verified(two, "docs") == {"fresh": 2}


def test_an_oid_of_another_database_is_not_believed(two, restored):
    """Restored with triggers off, the row has the old oid, which may be that of any table here."""
    there = restored("--exclude-table=other", "--exclude-table=other_embedding")
    there.execute("CREATE TABLE secret (id int PRIMARY KEY, body text); INSERT INTO secret VALUES (1, 'hidden')")
    there.execute("UPDATE embed.pipeline SET source = 'secret'::regclass WHERE name = 'other'")
    work(there)
    assert there.execute("SELECT source FROM embed.pipeline WHERE name = 'other'").fetchone() == (0,)
    assert there.execute(
        "SELECT count(*) FROM embed.document d JOIN embed.generation g ON g.id = d.generation"
        " JOIN embed.pipeline p ON p.id = g.pipeline WHERE p.name = 'other'"
    ).fetchone() == (2,)
    assert there.execute("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'secret'::regclass").fetchone() == (0,)


def test_data_restored_without_triggers_into_new_tables_of_the_same_database(two, cluster, dsn, tmp_path):
    """Server and database are the same, so that only the oids tell that these are other tables."""
    dumped = tmp_path / "dump"
    run(cluster, "pg_dump", "--format", "custom", "--file", dumped, "-d", dsn)
    two.execute("DROP EXTENSION evergreen CASCADE; DROP SCHEMA embed_store CASCADE; DROP TABLE docs, other")
    for step in (("--schema-only",), ("--data-only", "--disable-triggers")):
        run(cluster, "pg_restore", "--exit-on-error", *step, "-d", dsn, dumped)
    work(two)
    for pipeline in ("docs", "other"):
        assert verified(two, pipeline) == {"fresh": 2}
    two.execute("UPDATE docs SET body = 'edited' WHERE id = 1; DELETE FROM docs WHERE id = 2")
    work(two)
    assert verified(two, "docs") == {"fresh": 1}
