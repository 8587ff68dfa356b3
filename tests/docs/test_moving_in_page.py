"""The page on moving in: its statements run against the other extensions' tables, and imported vectors cost no call."""

import pytest

from tests.docs.pages import blocks
from tests.fixtures.paths import PROJECT
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.pipelines.freshness import assert_fresh
from tests.fixtures.providers.loopback import vector

PAGES = [PROJECT / "docs" / "how-to" / "moving-in.md", *(PROJECT / "docs" / "how-to" / "moving-in").glob("*.md")]

# The tables that the other made, what they hold, and the texts that are left to embed.
THEIRS = {
    "pg-vectorize.md": (
        """
        CREATE TABLE products (product_id int PRIMARY KEY, product_name text, description text,
                               last_updated_at timestamptz);
        INSERT INTO products VALUES (1, 'Pencil', 'for writing', now()), (2, 'Stand', 'edited', now() + '1 hour');
        CREATE SCHEMA vectorize;
        CREATE TABLE vectorize._embeddings_product_search (product_id int UNIQUE, embeddings vector(8),
                                                           updated_at timestamptz);
        """,
        "INSERT INTO vectorize._embeddings_product_search VALUES (%s, %s, now())",
        [(1, "Pencil for writing"), (2, "Stand before")],
        ["Stand edited"],
    ),
    "pgedge.md": (
        """
        CREATE TABLE documents (id int PRIMARY KEY, content text);
        INSERT INTO documents VALUES (1, 'Short.'), (2, 'edited');
        CREATE TABLE documents_content_chunks (id bigserial PRIMARY KEY, source_id int, chunk_index int DEFAULT 1,
                                               content text, embedding vector(8));
        """,
        "INSERT INTO documents_content_chunks (source_id, embedding, content) VALUES (%s, %s, %s)",
        [(1, "Short."), (2, "before")],
        ["edited"],
    ),
    "supabase.md": (
        """
        CREATE TABLE documents (id int PRIMARY KEY, title text, content text, embedding vector(8));
        INSERT INTO documents VALUES (1, 'T', 'one'), (2, 'U', 'edited');
        """,
        "UPDATE documents SET embedding = CASE id WHEN 1 THEN %s::vector END WHERE id = 1",
        [(1, "# T\n\none")],
        ["# U\n\nedited"],
    ),
    "moving-in.md": (
        """
        CREATE TABLE articles (id int PRIMARY KEY, title text, body text);
        INSERT INTO articles VALUES (1, 'T', 'one'), (2500, 'U', 'edited'), (2501, 'V', 'two');
        CREATE TABLE article_vectors (article_id int, embedding vector(8), text text);
        """,
        "INSERT INTO article_vectors VALUES (%s, %s, %s)",
        [(1, "T\n\none"), (2500, "U\n\nbefore"), (2501, "V\n\ntwo")],  # on different pages
        ["U\n\nedited"],
    ),
}


def statements(page):
    (found,) = (path for path in PAGES if path.name == page)
    return [block.code for block in blocks(found, "sql")]


@pytest.mark.parametrize("page", THEIRS)
def test_what_they_have_embedded_is_not_paid_for_again(db, provider, page):
    tables, put, chunks, left = THEIRS[page]
    db.execute(tables)
    for key, text in chunks:
        values = (key, str(vector(text, 8)), text)
        db.execute(put, {3: values, 2: values[:2], 1: values[1:2]}[put.count("%s")])
    for model in ("all-MiniLM-L6-v2", "text-embedding-3-small"):
        provider.register(db, model)
    for block in statements(page):
        db.execute(block)
    drain_all(db)
    assert provider.sent == dict.fromkeys(left, 1)
    (name,) = db.execute("SELECT pipeline FROM embed_pipelines").fetchone()
    (rows,) = db.execute("SELECT rows FROM embed_status").fetchone()
    assert_fresh(db, name, rows)


def test_every_page_with_statements_is_run():
    assert {path.name for path in PAGES if statements(path.name)} == set(THEIRS)
