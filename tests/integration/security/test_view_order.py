"""A reader's own ORDER BY embedding <=> … on the view under row security: what docs/how-to/search.md says of it.

The kind: an index in ORDER BY gives its nearest rows before the policy leaves any of them out, and pgvector's
default ends the scan after the first 40. The setting that the page names, and the form that it shows, give as many as
were asked for.
"""

from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.roles import hash_model, people

HIDDEN, OWN = 1500, 20


def test_what_the_page_says_gives_all_rows(db, connect):
    people(db)
    hash_model(db)
    db.execute(
        f"""
        CREATE TABLE docs (id int PRIMARY KEY, tenant name, body text);
        INSERT INTO docs SELECT i, 'alice', 'hidden ' || i FROM generate_series(1, {HIDDEN}) i;
        INSERT INTO docs SELECT -i, 'bob', 'own ' || i FROM generate_series(1, {OWN}) i;
        CREATE INDEX ON docs (tenant);
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON docs USING (tenant = current_user);
        GRANT SELECT ON docs TO bob;
        SELECT embed_setting('index_from', '100');
        SELECT embed_create('docs', 'docs', columns => '{{body}}', model => 'hash8')
        """
    )
    drain_all(db)
    connect().execute("CALL embed_work(until_empty => true)")
    bob = connect("bob")
    bob.execute("SELECT embed_query('docs', 'point'); SET enable_sort = off")  # the plan that the planner may choose
    nearest = "SELECT id FROM docs_embedding ORDER BY embedding <=> (SELECT embed_query('docs', 'point')) LIMIT 10"
    assert "g1_embedding_idx" in str(bob.execute("EXPLAIN " + nearest).fetchall())
    assert len(bob.execute(nearest).fetchall()) < 10, "pgvector's default"
    exact = """
    SELECT id FROM (SELECT id, embedding <=> (SELECT embed_query('docs', 'point')) AS distance
                    FROM docs_embedding OFFSET 0) d ORDER BY distance LIMIT 10
    """
    wanted = bob.execute(exact).fetchall()
    assert len(wanted) == 10
    bob.execute("SET hnsw.iterative_scan = strict_order")
    assert len(bob.execute(nearest).fetchall()) == 10
    assert [key[0] for (key,) in bob.execute("SELECT key FROM embed_search('docs', 'point')")] == [
        one for (one,) in wanted
    ]
