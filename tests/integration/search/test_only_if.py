"""A row whose only_if is not true is never found, from the statement on that makes it so, whatever keeps workers away.

The kind: what a search shows of a row depends on the row as it is now, not on when a worker comes to it. The condition
is the view's own; so it holds while the pipeline is paused, its endpoint is down, or no worker runs, for every
way to ask, every generation, every capture, and for NULL as for false.
"""

import pytest

from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.roles import hash_model

pytestmark = pytest.mark.shared_database

ASKING = {
    "view": "SELECT id FROM docs_embedding",
    "vector": "SELECT (key ->> 0)::int FROM embed_search('docs', 'text', k => 100)",
    "keyword": "SELECT (key ->> 0)::int FROM embed_search('docs', 'text', k => 100, mode => 'keyword')",
    "hybrid": "SELECT (key ->> 0)::int FROM embed_search('docs', 'text', k => 100, mode => 'hybrid')",
    "rows": "SELECT (s.row).id FROM embed_search_rows(NULL::docs, 'text', k => 100) s",
}


def found(session):
    """What is found each way; one list where all agree."""
    answers = {way: sorted(row[0] for row in session.execute(asked)) for way, asked in ASKING.items()}
    assert len({tuple(keys) for keys in answers.values()}) == 1, answers
    return answers["view"]


@pytest.fixture
def docs(db):
    hash_model(db)
    db.execute(
        """
        CREATE TABLE docs (id int PRIMARY KEY, body text, deleted_at timestamptz,
                           is_live boolean GENERATED ALWAYS AS (deleted_at IS NULL) STORED);
        INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, 5) i
        """
    )


def create(db, **options):
    given = "".join(f", {name} => '{value}'" for name, value in options.items())
    db.execute(f"SELECT embed_create('docs', 'docs', columns => '{{body}}', only_if => 'is_live'{given})")
    drain_all(db)


@pytest.mark.parametrize("capture", ["trigger", "manual"])
def test_a_row_is_hidden_at_once_while_the_pipeline_is_paused(db, docs, capture):
    create(db, model="hash8", capture=capture)
    db.execute("SELECT embed_pause('docs')")
    assert found(db) == [1, 2, 3, 4, 5]
    db.execute("UPDATE docs SET deleted_at = now() WHERE id IN (2, 4)")
    assert found(db) == [1, 3, 5]
    db.execute("UPDATE docs SET deleted_at = NULL WHERE id = 2")
    assert found(db) == [1, 2, 3, 5], "and is back at once: its vector is the right one"
    assert db.execute("SELECT count(*) FROM docs_embedding WHERE is_stale").fetchone() == (0,)
    db.execute("ALTER TABLE docs RENAME is_live TO visible")
    db.execute("UPDATE docs SET deleted_at = now() WHERE id = 1")
    assert found(db) == [2, 3, 5], "the condition is followed by its new name"
    db.execute("SELECT embed_resume('docs'), embed_touch('docs', '[1]', '[2]', '[4]')")
    drain_all(db)
    assert found(db) == [2, 3, 5]
    assert dict(db.execute("SELECT * FROM embed_verify('docs')").fetchall())["fresh"] == 5


def test_a_row_is_hidden_while_its_endpoint_is_down(db, docs, model, provider):
    create(db, model="loop")
    found(db)  # the session knows the question's vector from here on
    provider.answer = lambda _: (503, b"down")
    db.execute("UPDATE docs SET deleted_at = now(), body = 'text that is new' WHERE id = 3")
    db.execute("UPDATE docs SET body = 'text that waits' WHERE id = 4")
    db.execute("SELECT embed_drain()")
    assert found(db) == [1, 2, 4, 5]


def test_null_is_not_true(db, docs):
    db.execute("ALTER TABLE docs DROP is_live; ALTER TABLE docs ADD is_live boolean DEFAULT true")
    create(db, model="hash8")
    db.execute("UPDATE docs SET is_live = NULL WHERE id = 1; UPDATE docs SET is_live = false WHERE id = 2")
    assert found(db) == [3, 4, 5]


def test_every_generation_has_the_condition(db, docs):
    create(db, model="hash8")
    db.execute("SELECT embed_build('docs', chunker => embed_chunk_text(300))")
    drain_all(db)
    for switch in ("promote", "rollback"):
        db.execute(f"SELECT embed_{switch}('docs')")
        assert found(db) == [1, 2, 3, 4, 5]
        with db.transaction(force_rollback=True):
            db.execute("UPDATE docs SET deleted_at = now() WHERE id > 1")
            assert found(db) == [1]


@pytest.mark.parametrize("ddl", ["DROP is_live", "DROP is_live, ADD is_live int DEFAULT 1"])
def test_without_the_condition_no_row_is_known_to_meet_it(db, docs, ddl):
    create(db, model="hash8")
    db.execute(f"ALTER TABLE docs {ddl}")
    assert found(db) == []
    assert db.execute("SELECT state FROM embed_status").fetchone() == ("broken",)
