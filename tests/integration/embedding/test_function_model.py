"""A model that is a SQL function of the user's, written as users write one."""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

FUNCTION = """
CREATE TABLE calls (texts int);
CREATE FUNCTION toy(texts text[]) RETURNS vector[] LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO calls VALUES (cardinality(texts));
    RETURN (SELECT array_agg(format('[%s,1]', length(t))::vector ORDER BY n)
            FROM unnest(texts) WITH ORDINALITY u (t, n));
END $$
"""


def test_its_body_needs_no_qualified_names(db, docs):
    db.execute(FUNCTION)
    db.execute("SELECT embed_model_add('toy', 'function', 2, 'toy')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'toy')")
    assert db.execute("SELECT embed_drain()").fetchone() == (10,)
    assert db.execute("SELECT sum(texts) FROM calls").fetchone() == (10,)
    db.execute("UPDATE docs SET body = 'longer than before' WHERE id = 3")
    db.execute("CALL embed_work(until_empty => true)")
    assert db.execute("SELECT sum(texts) FROM calls").fetchone() == (11,)
    assert db.execute("SELECT count(*) FROM embed_search('docs', 'some question')").fetchone() == (10,)


def test_it_may_live_in_a_schema_of_its_own(db, docs):
    db.execute("CREATE SCHEMA models; SET search_path = models, public")
    db.execute(FUNCTION)
    db.execute("SELECT embed_model_add('toy', 'function', 2, 'models.toy'); RESET search_path")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'toy')")
    assert db.execute("SELECT embed_drain()").fetchone() == (10,)
    assert db.execute("SELECT sum(texts) FROM models.calls").fetchone() == (10,)


def test_a_drain_pays_once_for_a_text_of_two_pipelines(db, docs):
    """The first has its answers when the second is claimed, and nothing is written before the end."""
    db.execute(FUNCTION)
    db.execute("SELECT embed_model_add('toy', 'function', 2, 'toy')")
    for name in ("one", "two"):
        db.execute(f"SELECT embed_create('{name}', 'docs', columns => '{{title,body}}', model => 'toy')")
    assert db.execute("SELECT embed_drain()").fetchone() == (20,)
    assert db.execute("SELECT sum(texts) FROM calls").fetchone() == (10,)
