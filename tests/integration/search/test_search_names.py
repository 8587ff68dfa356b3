"""Names of ours in generated SQL (aliases, columns, parameters) against those of the user's tables and columns.

The kind: `SELECT v` means a column where a column is called v, an unqualified name means whichever is nearest, and a
table may have the name of an alias. So every statement that is generated meets tables of such names, with columns of
all of them, some of them the key: as the owner, and as a reader to whom row security applies. What can be a column is
every identifier of our own SQL that a statement over the source or the view has.
"""

import pytest
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from tests.fixtures.roles import hash_model, people

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

NAMES = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u",
    "v", "w", "x", "y", "z", "k1", "k2", "k3", "s_", "key", "key_key", "chunk", "chunk_no", "chunk_hash",
    "embedding", "score", "row", "id", "document", "src_hash", "source_row", "distance", "query", "place",
    "generation", "is_stale", "shows_stale", "content", "wrapper", "ord", "model", "fingerprint", "embedded_at",
    "evergreen_as_source", "asked", "names", "source", "view", "table", "value", "name", "limit", "old_key",
    "new_key", "known", "wake", "pipeline", "change", "text", "jsonb", "vector", "float8", "int4", "coalesce",
    "count", "unnest", "tenants", "public", "pg_catalog", "embed", "embed_store", "src_1", "g1", "r1", "docs",
    "excluded", "Odd Name", 'quo"ted', "{view}", "$1", "s.k1",
]  # fmt: skip
SIZE = 20  # columns of a key
KEYS = [NAMES[start : start + SIZE] for start in range(0, len(NAMES), SIZE)]
CALLS = {
    "vector": "SELECT key FROM embed_search({name}, '3', k => 1)",
    "one a key": "SELECT key FROM embed_search({name}, '3', k => 1, max_per_key => 1, stale => 'hide')",
    "keyword": "SELECT key FROM embed_search({name}, '3', k => 1, mode => 'keyword')",
    "hybrid": "SELECT key FROM embed_search({name}, '3', k => 1, mode => 'hybrid')",
    "view": "SELECT key FROM {view} ORDER BY embedding <=> embed_query({name}, '3') LIMIT 1",
    "rows": "SELECT jsonb_build_array({keys}) FROM embed_search_rows(NULL::public.{table}, '3', 1) hit, {table} theirs"
    " WHERE hit.row::text = theirs::text",
}


def make(db, key):
    """A table with columns of all names, called as the first one of its key, with rows of alice and one of bob."""
    at = {"table": Identifier(key[0]), "view": Identifier(f"{key[0]}_embedding"), "policy": Identifier(key[-1])}
    columns = [Identifier(name) for name in NAMES]
    keys = SQL(", ").join(Identifier(name) for name in key)
    db.execute(
        SQL("CREATE TABLE {table} ({columns}, tenant text, body text, PRIMARY KEY ({keys}))").format(
            **at,
            keys=keys,
            columns=SQL(", ").join(SQL("{} int").format(name) for name in columns),
        )
    )
    db.execute(
        SQL(
            "INSERT INTO {table} SELECT {values}, CASE i WHEN 3 THEN 'bob' ELSE 'alice' END, i::text"
            " FROM generate_series(1, 4) i"
        ).format(**at, values=SQL(", ").join(SQL("i") for _ in columns))
    )
    db.execute(
        SQL(
            "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;"
            " CREATE POLICY {policy} ON {table} USING (tenant = current_user); GRANT SELECT, UPDATE ON {table} TO bob"
        ).format(**at)
    )
    db.execute(
        "SELECT embed_create(%s, %s, columns => ARRAY['body', %s], model => 'hash8')",
        (key[0], Identifier(key[0]).as_string(db), key[0]),
    )
    db.execute("SELECT embed_drain(%s)", (key[0],))
    aliased = SQL(", ").join(SQL("theirs.{}").format(Identifier(name)) for name in key)
    return {name: SQL(call).format(name=key[0], keys=aliased, **at) for name, call in CALLS.items()}


@pytest.mark.few(2)
@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key[0]} to {key[-1]}")
def test_no_name_of_a_users_is_in_the_way(db, connect, key):
    people(db)
    hash_model(db)
    calls = make(db, key)
    third = [3] * len(key)
    bob = connect("bob")
    for name, call in calls.items():
        for session in db, bob:
            found = session.execute(call).fetchall()
            if session is bob or name in {"keyword", "hybrid"}:
                assert found == [(third,)], name
            else:
                assert len(found) == 1, name
    for session in db, bob:
        assert session.execute("SELECT embed_wait(%s, %s, '0 s')", (key[0], Jsonb(third))).fetchone() == (True,)
    bob.execute(SQL("UPDATE {} SET body = '3 is mine'").format(Identifier(key[0])))
    for asked in Jsonb(third), None:
        assert bob.execute("SELECT embed_wait(%s, %s, '0 s')", (key[0], asked)).fetchone() == (False,)
    db.execute("SELECT embed_drain(%s)", (key[0],))
    assert bob.execute(calls["keyword"]).fetchall() == [(third,)]
    states = db.execute("SELECT state, rows FROM embed_verify(%s) WHERE rows > 0", (key[0],)).fetchall()
    assert states == [("fresh", 4)]
    assert "3 is mine" in db.execute("SELECT embed_explain(%s, %s)", (key[0], Jsonb(third))).fetchone()[0]
    db.execute("SELECT embed_build(%s, chunker => embed_chunk_text())", (key[0],))
    db.execute("SELECT embed_drain(%s)", (key[0],))
    assert len(db.execute("SELECT overlap FROM embed_compare(%s, '{3}')", (key[0],)).fetchall()) == 1
    db.execute("SELECT embed_promote(%s)", (key[0],))
    assert bob.execute(calls["rows"]).fetchall() == [(third,)]


def test_a_table_may_have_the_name_of_an_alias(db):
    hash_model(db)
    for table in [*"abcdghkmnstuvwx", "g1", "src_1", "asked", "excluded"]:
        other = "v" if table != "v" else "s"
        db.execute(f"CREATE TABLE {table} ({other} int, {table} int, body text, PRIMARY KEY ({table}, {other}))")
        db.execute(f"INSERT INTO {table} SELECT i, i, i::text FROM generate_series(1, 2) i")
        db.execute("SELECT embed_create(%s, %s, columns => '{body}', model => 'hash8')", (table, table))
        db.execute("SELECT embed_drain(%s)", (table,))
        for mode in ("vector", "keyword"):
            found = "SELECT key FROM embed_search(%s, '2', k => 1, mode => %s)"
            assert db.execute(found, (table, mode)).fetchall() == [([2, 2],)], (table, mode)
        rows = f"SELECT (hit.row).body FROM embed_search_rows(NULL::{table}, '2', 1) hit"
        assert db.execute(rows).fetchall() == [("2",)], table
