"""embed_search_rows gives whole, typed rows of the source, each once."""

import pytest
from psycopg import sql

from tests.fixtures.roles import hash_model, people

pytestmark = pytest.mark.shared_database


def test_rows_are_typed_and_best_first(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    rows = db.execute(
        "SELECT (s.row).id, (s.row).title, s.chunk, s.score FROM embed_search_rows(NULL::docs, 'body 4', k => 3) s"
    ).fetchall()
    assert rows[0] == (4, "title 4", "body 4", pytest.approx(1, abs=1e-6))
    assert [row[3] for row in rows] == sorted((row[3] for row in rows), reverse=True)
    assert len(rows) == 3
    assert db.execute("SELECT pg_typeof(s.row)::text FROM embed_search_rows(NULL::docs, 'q', 1) s").fetchone() == (
        "docs",
    )


@pytest.mark.parametrize("restricted", [False, True])
def test_rows_whose_key_is_a_domain_over_an_enum(db, connect, restricted):
    people(db)
    hash_model(db)
    db.execute("CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN low AS mood")
    db.execute("CREATE TABLE docs (id low PRIMARY KEY, body text); GRANT SELECT ON docs TO bob")
    db.execute("INSERT INTO docs VALUES ('sad', 'body 1'), ('glad', 'body 2')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    if restricted:
        db.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON docs USING (id::mood = 'sad')")
    bob, keys = connect("bob"), [(["sad"],)] if restricted else [(["sad"],), (["glad"],)]
    assert bob.execute("SELECT s.row::text FROM embed_search_rows(NULL::docs, 'body 1', k => 1) s").fetchall() == [
        ('(sad,"body 1")',)
    ]
    for mode in ("vector", "keyword", "hybrid"):
        found = bob.execute("SELECT key FROM embed_search('docs', 'body', mode => %s)", (mode,)).fetchall()
        assert sorted(found, reverse=True) == keys, mode
    assert bob.execute("SELECT embed_wait('docs', '[\"sad\"]')").fetchone() == (True,)


def test_a_row_of_many_chunks_comes_once_with_its_best(db):
    hash_model(db)
    db.execute("CREATE TABLE docs (id int PRIMARY KEY, body text)")
    body = "string_agg(repeat(chr(96 + i) || j || ' ', 9), E'\\n\\n')"
    db.execute(f"INSERT INTO docs SELECT i, {body} FROM generate_series(1, 3) i, generate_series(1, 6) j GROUP BY i")
    chunker = "embed_chunk_text(size => 30)"
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', chunker => {chunker}, model => 'hash8')")
    db.execute("SELECT embed_drain()")
    rows = db.execute("SELECT (s.row).id, s.chunk, s.score FROM embed_search_rows(NULL::docs, 'q') s").fetchall()
    best = {}
    for key, chunk, score in db.execute("SELECT key, chunk, score FROM embed_search('docs', 'q', k => 99)"):
        best.setdefault(key[0], (key[0], chunk, pytest.approx(score, abs=1e-9)))
    assert rows == list(best.values())


ODD = [
    "a text, b int, body text, PRIMARY KEY (b, a)",
    "s text, n int, body text, PRIMARY KEY (s, n)",
    '"key" text, "row" int, body text, PRIMARY KEY ("row", "key")',
    '"A ""quoted"" name" text, chunk_no int, body text, PRIMARY KEY (chunk_no, "A ""quoted"" name")',
    "chunk text, embedding int, body text, is_stale text, PRIMARY KEY (embedding, chunk)",
    "b text, g int, v int, k1 int, d text, body text, PRIMARY KEY (k1, b)",
    "distance text, source_row int, score int, query text, body text, PRIMARY KEY (source_row, distance)",
]


def test_no_name_of_a_column_is_in_the_way(db):
    """Composite keys of every kind, with the names that the statement itself uses."""
    hash_model(db)
    for number, columns in enumerate(ODD):
        table = f"odd{number}"
        db.execute(f"CREATE TABLE {table} ({columns})")
        names = [column.name for column in db.execute(f"SELECT * FROM {table}").description]
        values = sql.SQL(", ").join(sql.SQL("(i)::text") if name == "body" else sql.SQL("i") for name in names)
        db.execute(
            sql.SQL("INSERT INTO {} SELECT {} FROM generate_series(1, 4) i").format(sql.Identifier(table), values)
        )
        db.execute("SELECT embed_create(%s, %s, columns => '{body}', model => 'hash8')", [table, table])
        db.execute("SELECT embed_drain()")
        found = f"SELECT (s.row).body, s.row::text, s.chunk FROM embed_search_rows(NULL::{table}, '3', k => 1) s"
        row = db.execute(found).fetchone()
        assert row[0] == row[2] == "3"
        assert row[1] == db.execute(f"SELECT t::text FROM {table} t WHERE body = '3'").fetchone()[0]


def test_renamed_columns_and_tables_are_followed(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    db.execute("ALTER TABLE docs RENAME id TO number")
    db.execute("ALTER TABLE docs RENAME TO papers")
    db.execute("ALTER TABLE papers ADD COLUMN extra text DEFAULT 'x'")
    found = "SELECT (s.row).number, (s.row).extra FROM embed_search_rows(NULL::papers, 'body 3', 1) s"
    row = db.execute(found).fetchone()
    assert row == (3, "x")


def test_of_two_pipelines_one_is_named(db, docs):
    hash_model(db)
    db.execute("SELECT embed_create('bodies', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_create('titles', 'docs', columns => '{title}', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    for name, text in (("bodies", "body 3"), ("titles", "title 3")):
        statement = "SELECT s.chunk FROM embed_search_rows(NULL::docs, %s, k => 1, pipeline => %s) s"
        assert db.execute(statement, [text, name]).fetchone() == (text,)
