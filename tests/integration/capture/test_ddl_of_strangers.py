"""DDL on what is not of a source makes no work for its pipeline; what goes from a source by DDL does.

The kind: an event trigger sees every command in the database, and decides which are of a source. Each pipeline that is
checked, regenerated or swept because of another role's command costs as much as that role chooses.
"""

import pytest

from tests.fixtures.pipelines.freshness import assert_fresh, texts_in_view

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

STRANGERS = {
    "a table": "CREATE TABLE x (); DROP TABLE x",
    "a temporary table": "CREATE TEMPORARY TABLE x (a int PRIMARY KEY); ALTER TABLE x ADD b int; DROP TABLE x",
    "a partition": """CREATE TABLE x (a int) PARTITION BY LIST (a); CREATE TABLE x1 PARTITION OF x FOR VALUES IN (1);
                      CREATE TABLE x2 PARTITION OF x FOR VALUES IN (2); ALTER TABLE x DETACH PARTITION x2;
                      DROP TABLE x1; DROP TABLE x, x2""",
    "a view": """CREATE TABLE x (a int); CREATE MATERIALIZED VIEW y AS TABLE x; REFRESH MATERIALIZED VIEW y;
                 DROP TABLE x CASCADE""",
    "an index": "CREATE TABLE x (a int); CREATE INDEX y ON x (a); DROP INDEX y; DROP TABLE x",
    "a type": "CREATE TYPE x AS ENUM ('a'); ALTER TYPE x ADD VALUE 'b'; ALTER TYPE x RENAME TO y; DROP TYPE y",
    "a domain": "CREATE DOMAIN x AS text; ALTER DOMAIN x SET NOT NULL; DROP DOMAIN x",
    "a schema": "CREATE SCHEMA x; CREATE TABLE x.a (b int); ALTER SCHEMA x RENAME TO y; DROP SCHEMA y CASCADE",
    "a function and a trigger": """CREATE TABLE x (a int);
        CREATE TRIGGER evergreen_1_insert AFTER INSERT ON x EXECUTE FUNCTION evergreen_1_insert(); DROP TABLE x""",
    "a rewrite": "CREATE TABLE x (a int); ALTER TABLE x ALTER a TYPE text; DROP TABLE x",
    "a foreign key's table": "CREATE TABLE x (n int, id int, FOREIGN KEY (n, id) REFERENCES t); DROP TABLE x",
}
# By what PostgreSQL itself counts: the functions of a pipeline, regenerated, get another version of their row.
FUNCTIONS = "SELECT array_agg(xmin::text ORDER BY oid) FROM pg_proc WHERE pronamespace = 'embed_store'::regnamespace"
LOGGED = "SELECT count(*) FROM embed.change_log"


@pytest.fixture
def parts(db, model):
    db.execute("CREATE FUNCTION evergreen_1_insert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    db.execute("CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE DOMAIN feeling AS mood")
    db.execute("CREATE TABLE t (id int, n int, body text, f feeling, PRIMARY KEY (n, id)) PARTITION BY RANGE (n)")
    for i in range(4):
        db.execute(f"CREATE TABLE t{i} PARTITION OF t FOR VALUES FROM ({i}) TO ({i + 1})")
    db.execute("INSERT INTO t SELECT i, i, 'body ' || i, 'glad' FROM generate_series(0, 3) i")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    db.execute("SELECT embed_create('m', 't', columns => '{body}', model => 'loop', capture => 'manual')")
    assert_fresh(db, "t", 4)
    db.execute("SELECT embed_drain()")
    return db


def test_what_strangers_do_makes_no_work(parts):
    before = parts.execute(FUNCTIONS).fetchone()
    for what, statements in STRANGERS.items():
        for statement in statements.split("; "):
            parts.execute(statement)
        assert parts.execute(LOGGED).fetchone() == (0,), what
        assert parts.execute(FUNCTIONS).fetchone() == before, what


def swept(db):
    return [
        name
        for (name,) in db.execute("""
        SELECT DISTINCT p.name FROM embed.change_log c JOIN embed.pipeline p ON p.id = c.pipeline
        WHERE c.scope IS NOT NULL ORDER BY 1""")
    ]


@pytest.mark.parametrize("come_later", [False, True])
def test_partitions_that_go_are_noticed(parts, come_later):
    if come_later:
        parts.execute("CREATE TABLE t4 PARTITION OF t FOR VALUES FROM (4) TO (5); DROP TABLE t3")
        parts.execute("CREATE TABLE t3 (LIKE t INCLUDING ALL); INSERT INTO t3 SELECT 3, 3, 'body 3', 'sad'")
        parts.execute("ALTER TABLE t ATTACH PARTITION t3 FOR VALUES FROM (3) TO (4)")
        assert_fresh(parts, "t", 4)
        parts.execute("SELECT embed_drain()")
    parts.execute("DROP TABLE t3")
    assert swept(parts) == ["m", "t"]
    assert_fresh(parts, "t", 3)
    assert texts_in_view(parts, "t_embedding") == ["body 0", "body 1", "body 2"]
    parts.execute("BEGIN; ALTER TABLE t DETACH PARTITION t2; COMMIT")
    assert swept(parts) == ["m", "t"]
    assert_fresh(parts, "t", 2)
    parts.execute("SELECT embed_drain('m')")
    assert parts.execute("SELECT count(*) FROM embed.document").fetchone() == (4,)


@pytest.mark.few(2)
@pytest.mark.parametrize("change", ["ALTER TYPE mood RENAME TO spirits", "ALTER DOMAIN feeling RENAME TO sense",
                                    "CREATE SCHEMA other; ALTER TYPE mood SET SCHEMA other"])  # fmt: skip
def test_a_type_of_the_source_is_followed(parts, change):
    before = parts.execute(FUNCTIONS).fetchone()
    parts.execute(change)
    assert parts.execute(FUNCTIONS).fetchone() != before
    parts.execute("UPDATE t SET body = 'new'")
    assert_fresh(parts, "t", 4)
