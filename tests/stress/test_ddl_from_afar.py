"""DDL that changes a source without naming it, or that cannot be followed at once: the owner's writes go through."""

import pytest

from tests.fixtures.pipelines.freshness import assert_fresh, drain, status, texts_in_view, verify
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.stress


def pipeline(db, name, **arguments):
    given = {"columns": "'{body}'", "model": "'loop'"} | arguments
    db.execute(f"SELECT embed_create('{name}', '{name}', {', '.join(f'{k} => {v}' for k, v in given.items())})")


def write(session, table, column):
    """Every kind of write; each must go through."""
    session.execute(f"INSERT INTO {table} (id, {column}, n) VALUES (7, 'seven', 0)")
    session.execute(f"UPDATE {table} SET n = 1")
    session.execute(f"UPDATE {table} SET {column} = {column} || ' edited'")
    session.execute(f"UPDATE {table} SET id = 8 WHERE id = 7")
    session.execute(f"DELETE FROM {table} WHERE id = 1")


COLUMNS = "(id int, body text, n int)"
FAMILIES = {
    "inheritance": (
        [f"CREATE TABLE family {COLUMNS}", "CREATE TABLE t (PRIMARY KEY (id)) INHERITS (family)"],
        ["ALTER TABLE family RENAME body TO content"],
    ),
    "grandparent": (
        [
            f"CREATE TABLE family {COLUMNS}",
            "CREATE TABLE middle () INHERITS (family)",
            "CREATE TABLE t (PRIMARY KEY (id)) INHERITS (middle)",
        ],
        ["ALTER TABLE family RENAME body TO content"],
    ),
    "partition": (
        [
            f"CREATE TABLE family {COLUMNS} PARTITION BY RANGE (id)",
            "CREATE TABLE t PARTITION OF family (PRIMARY KEY (id)) DEFAULT",
        ],
        ["ALTER TABLE family RENAME body TO content"],
    ),
    "typed table": (
        [f"CREATE TYPE family AS {COLUMNS}", "CREATE TABLE t OF family (PRIMARY KEY (id))"],
        ["ALTER TYPE family RENAME ATTRIBUTE body TO content CASCADE"],
    ),
    "type and name": (
        [f"CREATE TABLE family {COLUMNS}", "CREATE TABLE t (PRIMARY KEY (id)) INHERITS (family)"],
        ["ALTER TABLE family ALTER body TYPE varchar", "ALTER TABLE family RENAME body TO content"],
    ),
}


@pytest.mark.parametrize(("make", "ddl"), FAMILIES.values(), ids=FAMILIES.keys())
def test_a_rename_that_comes_from_above_is_followed(db, connect, model, provider, make, ddl):
    for statement in make:
        db.execute(statement)
    pipeline(db, "t")
    db.execute("INSERT INTO t VALUES (1, 'one', 0), (2, 'two', 0)")
    session = connect()
    session.execute("UPDATE t SET body = 'one edited' WHERE id = 1")
    assert_fresh(db, "t", 2)
    for statement in ddl:
        db.execute(statement)
    write(session, "t", "content")
    assert_fresh(db, "t", 2)
    assert texts_in_view(db, "t_embedding") == ["seven edited", "two edited"]
    assert provider.sent["two"] == provider.sent["two edited"] == 1


def test_an_attribute_dropped_from_above_stops_the_pipeline_and_not_the_writer(db, connect, model):
    db.execute("CREATE TYPE family AS (id int, body text, n int); CREATE TABLE t OF family (PRIMARY KEY (id))")
    pipeline(db, "t")
    db.execute("INSERT INTO t VALUES (1, 'one', 0)")
    session = connect()
    session.execute("UPDATE t SET n = 1")
    drain(db)
    db.execute("ALTER TYPE family DROP ATTRIBUTE body CASCADE")
    session.execute("UPDATE t SET n = 2, id = 3")
    session.execute("INSERT INTO t VALUES (4, 4)")
    drain(db)
    found = status(db, "t")
    assert found.state == "broken"
    assert "body" in found.last_error
    db.execute("SELECT embed_drop('t')")


@pytest.mark.parametrize("ddl", ["RENAME body TO content", "RENAME id TO nr", "RENAME TO t2", "DROP body"])
def test_ddl_while_somebody_holds_the_pipelines_row_does_not_break_writers(db, connect, model, ddl):
    """The catalog row is locked, so the DDL cannot be followed at once; whatever is done later, no write fails."""
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text, n int)")
    pipeline(db, "t")
    db.execute("INSERT INTO t VALUES (1, 'one', 0), (2, 'two', 0)")
    session = connect()
    session.execute("UPDATE t SET n = 1")
    assert_fresh(db, "t", 2)
    holder = connect(autocommit=False)
    holder.execute("SELECT embed_alter('t', '{\"max_attempts\": 7}')")
    db.execute(f"ALTER TABLE t {ddl}")
    table, key, column = (
        "t2" if ddl.endswith("t2") else "t",
        "nr" if "nr" in ddl else "id",
        "content" if "content" in ddl else "body",
    )
    session.execute(f"UPDATE {table} SET n = 2")
    session.execute(f"DELETE FROM {table} WHERE {key} = 2")
    if "DROP" not in ddl:
        session.execute(f"UPDATE {table} SET {column} = 'edited' WHERE {key} = 1")
    holder.commit()
    session.execute(f"INSERT INTO {table} ({key}, n) VALUES (5, 5)")
    drain(db)
    if "DROP" in ddl:
        assert status(db, "t").state == "broken"
    else:
        assert_fresh(db, "t", 2)
        assert texts_in_view(db, "t_embedding") == ["edited"]


@pytest.mark.parametrize(
    ("before", "type_", "ddl"),
    [
        ("CREATE TYPE mood AS ENUM ('a', 'b', 'c')", "mood", "ALTER TYPE mood RENAME TO feeling"),
        ("CREATE TYPE mood AS ENUM ('a', 'b', 'c')", "mood", "CREATE SCHEMA s; ALTER TYPE mood SET SCHEMA s"),
        ("CREATE TYPE mood AS ENUM ('a', 'b', 'c')", "mood", "ALTER TYPE mood ADD VALUE 'aa' BEFORE 'b'"),
        ("CREATE EXTENSION citext", "citext", "CREATE SCHEMA s; ALTER EXTENSION citext SET SCHEMA s"),
        ("CREATE DOMAIN word AS text", "word", "ALTER DOMAIN word RENAME TO letters"),
        ("CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('a', 'b', 'c')", "s.mood", "ALTER SCHEMA s RENAME TO z"),
    ],
)
def test_a_keys_type_may_be_renamed_and_moved(db, connect, model, before, type_, ddl):
    db.execute(before)
    db.execute(f"CREATE TABLE t (id {type_} PRIMARY KEY, body text, n int)")
    pipeline(db, "t")
    db.execute("INSERT INTO t VALUES ('a', 'one', 0), ('b', 'two', 0)")
    assert_fresh(db, "t", 2)
    db.execute(ddl)
    connect().execute("UPDATE t SET body = body || ' edited', id = 'c' WHERE id = 'b'")
    assert db.execute("SELECT count(*) FROM t_embedding").fetchone() == (1,)
    assert_fresh(db, "t", 2)
    assert texts_in_view(db, "t_embedding") == ["one", "two edited"]


def test_a_renamed_label_of_a_watched_and_a_key_enum_heals(db, model, provider):
    db.execute("CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TABLE t (id mood PRIMARY KEY, body mood, n int)")
    pipeline(db, "t", template="'It is $body.'", columns="NULL")
    db.execute("INSERT INTO t VALUES ('good', 'good'), ('bad', 'bad')")
    assert_fresh(db, "t", 2)
    db.execute("ALTER TYPE mood RENAME VALUE 'bad' TO 'fine'")
    verify(db, "t", repair=True)
    assert_fresh(db, "t", 2)
    assert texts_in_view(db, "t_embedding") == ["It is fine.", "It is good."]
    assert provider.sent["It is good."] == 1


def test_ddl_waits_for_no_worker_and_stops_none(db, connect, docs, model, provider):
    """While a batch is at the model its source is renamed; the result still finds its way."""
    pipeline(db, "docs")
    provider.hold()
    work = Background(connect(), "CALL embed_work(until_empty => true)")
    provider.wait_for_requests()
    user = connect(options="-c statement_timeout=5000")
    user.execute("ALTER TABLE docs RENAME body TO content")
    user.execute("ALTER TABLE docs RENAME TO papers")
    user.execute("UPDATE papers SET content = 'edited' WHERE id = 1")
    assert work.running
    provider.release()
    work.result()
    wait_until(lambda: not drain(db), what="an empty queue")
    assert_fresh(db, "docs", 10)
    assert all(times == 1 for times in provider.sent.values())
    assert len(provider.sent) == 11
