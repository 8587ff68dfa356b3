"""A live source for tests of its owner's DDL."""

import pytest

from tests.fixtures.pipelines.freshness import assert_fresh, drain


@pytest.fixture
def live(db, connect, model):
    """A source with a fresh pipeline, and a session that has run the same prepared statements before."""
    if not db.execute("SELECT to_regrole('new_owner')").fetchall()[0][0]:
        db.execute("CREATE ROLE new_owner")  # roles outlive a test's database
    db.execute("CREATE SCHEMA app; GRANT USAGE, CREATE ON SCHEMA app, public TO new_owner")
    db.execute("SET search_path = app, application, public")
    db.execute("CREATE TABLE docs (first int, id int PRIMARY KEY, note text, body text, live bool DEFAULT true, n int)")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', only_if => 'live', model => 'loop')")
    db.execute("SELECT embed_model_add('h', 'hash', 8)")
    db.execute("SELECT embed_create('template', 'docs', template => '$note: $body', model => 'h', view_name => 'tv')")
    db.execute("CREATE TABLE other (id int PRIMARY KEY, body text)")
    db.execute("SELECT embed_create('other', 'other', columns => '{body}', model => 'loop')")
    db.execute("CREATE VIEW users_view AS SELECT key, chunk, is_stale, embedding FROM docs_embedding")
    db.execute(
        "INSERT INTO docs (id, note, body) SELECT i, 'note', '\"text ' || i || '\"' FROM generate_series(1, 3) i"
    )
    assert_fresh(db, "docs", 3)
    assert_fresh(db, "template", 3)
    session = connect()
    session.execute("SET search_path = app, application, public")
    session.execute("SET plan_cache_mode = force_generic_plan")
    # Whole-row writes through a view of the session's own would break by themselves: these name just what they change.
    session.execute("PREPARE edit (int, text) AS UPDATE docs SET body = $2 WHERE id = $1")
    session.execute("PREPARE add (int, text) AS INSERT INTO docs (id, note, body) VALUES ($1, 'note', $2)")
    session.execute("PREPARE remove (int) AS DELETE FROM docs WHERE id = $1")
    session.execute("PREPARE look AS SELECT key, chunk, is_stale FROM docs_embedding WHERE is_stale")
    session.execute("EXECUTE look")
    session.execute("EXECUTE edit (1, '\"edited\"')")
    session.execute("EXECUTE add (4, '\"text 4\"')")
    session.execute("EXECUTE remove (3)")
    drain(db)
    return session
