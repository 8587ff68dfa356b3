"""Names that are legal and hard to quote: of schemas, tables, columns, pipelines and views."""

import pytest
from psycopg.sql import SQL, Identifier, Literal

from tests.fixtures.pipelines.freshness import assert_fresh, texts_in_view
from tests.fixtures.stress import often

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

NAMES = [
    "key", "locked", "embedding", "chunk", "chunk_no", "model", "fingerprint", "is_stale", "embedded_at", "key_key",
    "select", "user", "order", "OLD", "NEW", "old", "new", "TG_OP", "s", "k", "g", "ord", "h", "k1", "source",
    "document", "MiXed Case", 'id"x', "it's", 'a""b', "back\\slash", r"\n", "$1", "$$", "$body$", "%", "%s", "%I",
    "{}", "{source}", "{matches}", "{new_key_document}", "{pipeline}", "{body}", "{settings}", "a}b", "${x}", "a\nb",
    "tab\tname", "--", "/*", "größe", "名前", "😀", " ", ".", "a.b", "x" * 63,
]  # fmt: skip


def as_identifiers(text, **names):
    return SQL(text).format(**{name: Identifier(*value.split("\0")) for name, value in names.items()})


@pytest.mark.few(1)
@pytest.mark.parametrize("start", often(range(6), 0, 3))
def test_any_name_may_be_a_key_or_a_watched_column(db, model, start):
    """Each name is once a key column and once a watched one, in tables and schemas of that name."""
    for name in NAMES[start::6]:
        at = {"schema": name, "table": f"{name}\0{name}", "name": name, "view": f"{name}\0a view"}
        db.execute(as_identifiers("CREATE SCHEMA {schema}", **at))
        other = "id" if name != "id" else "id2"
        for key, watched in [(name, other), (other, name)]:
            both = at | {"k": key, "w": watched}
            db.execute(as_identifiers("CREATE TABLE {table} ({w} text, {k} text PRIMARY KEY)", **both))
            source = as_identifiers("{table}", **at).as_string(db)
            db.execute(
                "SELECT embed_create(%s, %s, columns => %s, model => 'loop', view_name => 'a view')",
                (name, source, [watched]),
            )
            insert = as_identifiers("INSERT INTO {table} ({w}, {k}) VALUES", **both)
            db.execute(insert + SQL(" ({}, 'a')").format(Literal(f"text of {name}")))
            assert_fresh(db, name, 1)
            db.execute(as_identifiers("UPDATE {table} SET {w} = {w} || ' edited', {k} = 'b'", **both))
            assert_fresh(db, name, 1)
            rows = db.execute(as_identifiers("SELECT key, chunk, is_stale FROM {view}", **both)).fetchall()
            assert rows == [(["b"], f"text of {name} edited", False)]
            db.execute("SELECT embed_drop(%s)", (name,))
            db.execute(as_identifiers("DROP TABLE {table}", **at))


def test_key_columns_that_clash_with_the_views_own_get_a_prefix(db, model):
    db.execute("CREATE TABLE t (key int, key_key int, chunk int, embedding int, body text)")
    db.execute("ALTER TABLE t ADD PRIMARY KEY (key_key, key, chunk, embedding)")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    db.execute("INSERT INTO t VALUES (1, 2, 3, 4, 'text')")
    assert_fresh(db, "t", 1)
    row = db.execute("SELECT key, key_chunk, key_embedding, chunk FROM t_embedding").fetchone()
    assert row == ([2, 1, 3, 4], 3, 4, "text")
    cursor = db.execute("SELECT * FROM t_embedding")
    assert len({column.name for column in cursor.description}) == len(cursor.description)


def test_a_template_follows_a_column_to_any_name_and_back(db, model, provider):
    """A rename rewrites the template, so it must be able to write whatever the column is called now."""
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO t VALUES (1, 'text')")
    db.execute("SELECT embed_create('t', 't', template => '$$ {body} $body', model => 'loop')")
    assert_fresh(db, "t", 1)
    before = "body"
    for number, name in enumerate(NAMES):
        db.execute(as_identifiers("ALTER TABLE t RENAME {before} TO {name}", before=before, name=name))
        db.execute(as_identifiers("UPDATE t SET {name} = {name}", name=name))
        assert db.execute("SELECT state, broken_reason FROM embed_pipelines").fetchone() == ("active", None), name
        if number % 8 == 0:
            db.execute(as_identifiers("UPDATE t SET {name} = ", name=name) + Literal(f"text {number}"))
            assert_fresh(db, "t", 1)
            assert texts_in_view(db, "t_embedding") == [f"$ {{body}} text {number}"]
        before = name
    assert_fresh(db, "t", 1)
    assert all(times == 1 for times in provider.sent.values())
    assert len(provider.sent) == 1 + len(NAMES[::8]), "a rename costs no call"
