"""A text that was embedded once, is at a model, or stands twice in a batch is not sent again."""

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once, source_texts
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]


@pytest.fixture
def pipeline(db, docs, model, provider):
    """Ten documents, drained, with the provider's counters at zero."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    provider.reset()
    return "docs"


FREE = {
    "unrelated column": ["UPDATE docs SET n = n + 1"],
    "saved unchanged": ["UPDATE docs SET title = title, body = body"],
    "changed and changed back": ["UPDATE docs SET body = 'x' || body", "UPDATE docs SET body = substr(body, 2)"],
    "changed and changed back in one transaction": [
        "BEGIN",
        "UPDATE docs SET body = 'x' || body",
        "UPDATE docs SET body = substr(body, 2)",
        "COMMIT",
    ],
    "rolled back": ["BEGIN", "UPDATE docs SET body = 'never'", "ROLLBACK"],
    "deleted and inserted again": ["DELETE FROM docs", "INSERT INTO docs SELECT * FROM copy"],
    "deleted, drained and inserted again": [
        "DELETE FROM docs",
        "SELECT embed_drain()",
        "INSERT INTO docs SELECT * FROM copy",
    ],
    "truncated and filled again": ["TRUNCATE docs", "INSERT INTO docs SELECT * FROM copy"],
    "truncated, drained and filled again": [
        "TRUNCATE docs",
        "SELECT embed_drain()",
        "INSERT INTO docs SELECT * FROM copy",
    ],
    "keys changed": ["UPDATE docs SET id = id + 100"],
    "keys changed back": ["UPDATE docs SET id = id - 100"],
    "texts swapped between rows": [
        "UPDATE docs d SET title = o.title, body = o.body FROM docs o WHERE o.id = 11 - d.id"
    ],
    "a copy of each row": ["INSERT INTO docs SELECT id + 100, title, body FROM docs"],
    "the same text in other columns": ["UPDATE docs SET title = NULL, body = title || E'\\n\\n' || body"],
    "touched": ["SELECT embed_touch('docs', '1', '2')"],
    "text taken away": ["UPDATE docs SET title = NULL, body = ' '"],
}


def test_what_makes_no_new_text_costs_no_call(db, pipeline, provider):
    db.execute("CREATE TABLE copy AS SELECT * FROM docs")
    for name, statements in FREE.items():
        for statement in statements:
            db.execute(statement)
        drain_all(db)
        assert_as_source(db)
        assert provider.requests == [], name


def test_a_revert_after_the_drain_costs_no_call(db, pipeline, provider):
    db.execute("UPDATE docs SET body = 'other ' || id")
    drain_all(db)
    assert provider.sent.total() == 10
    provider.reset()
    db.execute("UPDATE docs SET body = 'body ' || id")
    drain_all(db)
    assert_as_source(db)
    assert provider.requests == []


def test_a_text_that_stands_in_many_rows_is_sent_once(db, pipeline, provider):
    db.execute("UPDATE docs SET title = 'one', body = 'text'")
    drain_all(db)
    assert_as_source(db)
    assert provider.sent == {"one\n\ntext": 1}


def test_pipelines_of_one_model_share_their_texts(db, pipeline, provider):
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO notes SELECT id + 5, title, body FROM docs")
    db.execute("SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    assert_as_source(db, "notes")
    assert provider.requests == []


def test_new_texts_of_two_pipelines_in_one_drain_are_sent_once(db, pipeline, provider):
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop')")
    db.execute("UPDATE docs SET body = 'new ' || id")
    db.execute("INSERT INTO notes SELECT id, title, body FROM docs")
    drain_all(db)
    assert_as_source(db)
    assert_as_source(db, "notes")
    assert provider.sent == dict.fromkeys(source_texts(db).values(), 1)


def test_the_text_of_a_dropped_pipeline_is_embedded_anew_only_where_nobody_kept_it(db, pipeline, provider):
    """A pipeline's end is no reason to pay again for texts that another one still has."""
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO notes SELECT id, title, body FROM docs")
    db.execute("SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    db.execute("SELECT embed_drop('docs')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    assert_as_source(db)
    assert provider.requests == []


CALLS = {
    "drain": "SELECT embed_drain('{pipeline}')",
    "work": "CALL embed_work('{pipeline}', max_runtime => '20 s', until_empty => true)",
}


@pytest.mark.few(2)
@pytest.mark.parametrize("first", CALLS)
@pytest.mark.parametrize("second", CALLS)
def test_a_text_that_is_at_the_model_is_not_sent_by_somebody_else(connect, db, pipeline, provider, first, second):
    """Two pipelines, each with a text of its own and one that both have; the second starts while the first's is out."""
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    db.execute("INSERT INTO docs VALUES (101, 'both', 'have this'), (102, 'docs', 'only')")
    db.execute("INSERT INTO notes VALUES (1, 'both', 'have this'), (2, 'notes', 'only')")
    provider.hold()
    one = Background(connect(), CALLS[first].format(pipeline="docs"))
    provider.wait_for_requests(1)
    two = Background(connect(), CALLS[second].format(pipeline="notes"))
    provider.wait_for_requests(2)  # the text that only the second has: by now it looked for the other one too
    provider.release()
    one.result()
    two.result()
    assert provider.sent == {"both\n\nhave this": 1, "docs\n\nonly": 1, "notes\n\nonly": 1}
    wait_until(lambda: drain_once(db) == 0, what="an empty queue")
    assert_as_source(db)
    assert_as_source(db, "notes")
    assert provider.sent.total() == 3
