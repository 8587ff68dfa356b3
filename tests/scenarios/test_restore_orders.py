"""Dumps restored in any order and by any means.

The kind: pg_dump sorts the tables of an extension by name and pg_restore loads them in parallel, so nothing in one
table of ours may need another one's rows to be there: no foreign key, no trigger, no check. Reversed is tried, too.
"""

import subprocess

import psycopg
import pytest

from tests.fixtures.dumps import create_empty, verified
from tests.fixtures.pipelines.freshness import assert_fresh
from tests.fixtures.pipelines.sample_database import goes_on, make_lively, once_each, status, work_and_vectors
from tests.fixtures.roles import hash_model
from tests.fixtures.wal import some_of

FOLDER = ("--format", "directory", "--jobs", "4")
BY_DEFAULT = ("parallel", "tables reversed", "data later, without triggers")
WAYS = {
    "parallel": (FOLDER, (("--jobs", "4"),)),
    "sections": (FOLDER, (("--section=pre-data",), ("--section=data", "--jobs", "3"), ("--section=post-data",))),
    "data later": (FOLDER, (("--schema-only",), ("--data-only",))),
    "data later, without triggers": (FOLDER, (("--schema-only",), ("--data-only", "--disable-triggers"))),
    "tables reversed": (("--format", "custom"), (("--use-list", "reversed"),)),
    "in one transaction": (("--format", "custom"), (("--single-transaction",),)),
}


@pytest.fixture
def source(db, model, provider):
    """Three drained pipelines, one dead letter, changes that wait; the model is behind an endpoint."""
    make_lively(db, provider)
    return db


@pytest.fixture
def target(cluster):
    """The name of an empty database."""
    create_empty(cluster, "restored")
    yield "restored"
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("DROP DATABASE restored WITH (FORCE)")


def run(cluster, program, *args):
    done = subprocess.run([cluster.bin(program), *args], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def reversed_list(cluster, dumped, path):
    """The dump's table of contents, in which the contents of tables come in the other direction."""
    lines = [line for line in run(cluster, "pg_restore", "--list", dumped).splitlines() if not line.startswith(";")]
    data = [line for line in lines if " TABLE DATA " in line]
    turned = iter(data[::-1])
    path.write_text("\n".join(next(turned) if line in data else line for line in lines))
    return path


@pytest.mark.few(2)
@pytest.mark.parametrize("way", some_of(WAYS, *BY_DEFAULT))
def test_every_way_gives_the_same_database(source, cluster, dsn, target, provider, tmp_path, way):
    how, steps = WAYS[way]
    dumped = tmp_path / "dump"
    run(cluster, "pg_dump", *how, "--file", dumped, "-d", dsn)
    order = reversed_list(cluster, dumped, tmp_path / "reversed") if way == "tables reversed" else None
    for step in steps:
        options = [str(order) if one == "reversed" else one for one in step]
        run(cluster, "pg_restore", "--exit-on-error", *options, "-d", cluster.dsn(target), dumped)
    with psycopg.connect(cluster.dsn(target), autocommit=True) as restored:
        if "data later" not in way:  # there the triggers of the sources have seen every row come
            assert work_and_vectors(restored) == work_and_vectors(source)
            assert status(restored) == status(source)
        goes_on(restored, provider)
        once_each(restored)
        odd = "SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled NOT IN ('A', 'R')"
        assert [row for row in restored.execute(odd) if row[1] != "reject_erased_text"] == []


def test_a_database_that_has_the_extension_already(source, cluster, dsn, target, provider, tmp_path):
    with psycopg.connect(cluster.dsn(target), autocommit=True) as there:
        there.execute("CREATE EXTENSION evergreen CASCADE")
    dumped = tmp_path / "dump"
    run(cluster, "pg_dump", *FOLDER, "--file", dumped, "-d", dsn)
    run(cluster, "pg_restore", "--exit-on-error", "--jobs", "2", "-d", cluster.dsn(target), dumped)
    with psycopg.connect(cluster.dsn(target), autocommit=True) as restored:
        assert work_and_vectors(restored) == work_and_vectors(source)
        goes_on(restored, provider)
        once_each(restored)


def test_a_schema_alone_is_begun_on_as_the_hints_say(db, docs, model, cluster, dsn, target, tmp_path):
    """Triggers and a view came, and no pipeline that knows them: the leftovers do not interfere."""
    create = "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')"
    hash_model(db)
    db.execute(create)
    run(cluster, "pg_dump", "--schema-only", "--format", "custom", "--file", tmp_path / "dump", "-d", dsn)
    run(cluster, "pg_restore", "--exit-on-error", "-d", cluster.dsn(target), tmp_path / "dump")
    with psycopg.connect(cluster.dsn(target), autocommit=True) as restored:
        hash_model(restored)
        restored.execute("INSERT INTO docs VALUES (1, 't', 'written first')")
        with pytest.raises(psycopg.errors.DuplicateTable) as refused:
            restored.execute(create)
        restored.execute(refused.value.diag.message_hint.partition(". ")[2])
        restored.execute(create)
        restored.execute("INSERT INTO docs VALUES (2, 't', 'written later')")
        restored.execute("CALL embed_work(until_empty => true)")
        assert_fresh(restored, "docs", 2)
        triggers = (
            "SELECT DISTINCT left(tgname, 12) FROM pg_trigger WHERE tgrelid = 'docs'::regclass AND NOT tgisinternal"
        )
        assert restored.execute(triggers).fetchall() == [("evergreen_2_",)]


def test_a_database_is_restored_over_itself(db, docs, model, provider, cluster, dsn, tmp_path):
    """--clean drops everything first, the extension last."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    assert_fresh(db, "docs", 10)
    before, sent = work_and_vectors(db), provider.sent.copy()
    run(cluster, "pg_dump", *FOLDER, "--file", tmp_path / "dump", "-d", dsn)
    run(cluster, "pg_restore", "--exit-on-error", "--clean", "--if-exists", "-d", dsn, tmp_path / "dump")
    assert work_and_vectors(db) == before
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    assert_fresh(db, "docs", 10)
    assert provider.sent - sent == {"edited": 1}


def test_no_table_of_ours_refers_to_another(source):
    found = (
        "SELECT conrelid::regclass FROM pg_constraint WHERE contype = 'f' AND connamespace IN ('embed'::regnamespace)"
    )
    assert source.execute(found).fetchall() == []


def test_what_foreign_keys_kept_is_kept_by_the_calls(db, docs, model, connect):
    """A model that a session is using just now, in a transaction still open, is not dropped."""
    with connect(autocommit=False) as other:
        other.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            db.execute("SELECT embed_model_drop('loop')")
        other.commit()
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        db.execute("SELECT embed_model_drop('loop')")
    with connect(autocommit=False) as other:
        other.execute("SELECT embed_build('docs', columns => '{title}')")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            db.execute("SELECT embed_drop('docs')")
        other.commit()
    assert verified(db, "docs") == {"missing": 10}
    db.execute("SELECT embed_drop('docs')")
    assert db.execute("SELECT count(*) FROM embed.generation").fetchone() == (0,)
