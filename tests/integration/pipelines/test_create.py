"""embed_create: what becomes text, which rows have vectors, what is queued, what an identical second call does."""

import pytest
from psycopg import errors

from tests.fixtures.error_checks import refused
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import Background

pytestmark = pytest.mark.shared_database


@pytest.fixture
def articles(db):
    hash_model(db)
    db.execute(
        """
        CREATE TABLE articles (id int PRIMARY KEY, title text, body text, "Odd Name" text, live boolean, price numeric);
        INSERT INTO articles VALUES
            (1, 'title', 'body', 'odd', true, 1.50), (2, NULL, 'body only', NULL, true, NULL),
            (3, 'title only', NULL, NULL, false, 3), (4, NULL, NULL, NULL, NULL, 4), (5, '', '  ', '', true, 5);
        """
    )


def create(db, **arguments):
    """embed_create with these arguments; returns the pipeline's id."""
    given = {"name": "articles", "source": "articles", "model": "hash8"} | arguments
    named = ", ".join(f"{name} => %({name})s" for name in given)
    return db.execute(f"SELECT embed_create({named})", given).fetchone()[0]


def chunks(db, view="articles_embedding"):
    return dict(db.execute(f"SELECT id, chunk FROM {view} ORDER BY id").fetchall())


PREPARATIONS = [
    ({"columns": ["title", "body"]}, {1: "title\n\nbody", 2: "body only", 3: "title only"}),
    ({"columns": ["body", "title"]}, {1: "body\n\ntitle", 2: "body only", 3: "title only"}),
    ({"columns": ["price"]}, {1: "1.50", 3: "3", 4: "4", 5: "5"}),
    ({"template": "$title: $body"}, {1: "title: body", 2: ": body only", 3: "title only: ", 4: ": ", 5: ":   "}),
    ({"template": "${Odd Name}$$${price}x"}, {1: "odd$1.50x", 2: "$x", 3: "$3x", 4: "$4x", 5: "$5x"}),
    ({"template": "{$title}\n"}, {1: "{title}\n", 2: "{}\n", 3: "{title only}\n", 4: "{}\n", 5: "{}\n"}),
    ({"columns": ["body"], "only_if": "live"}, {1: "body", 2: "body only"}),
]


@pytest.mark.slow
def test_what_becomes_text(db, articles):
    """NULLs are skipped, blank texts have no vector, and all the same every row is fresh."""
    for arguments, expected in PREPARATIONS:
        create(db, **arguments)
        assert db.execute("SELECT embed_drain()").fetchone() == (5,)
        assert chunks(db) == expected
        assert dict(db.execute("SELECT * FROM embed_verify('articles')").fetchall())["fresh"] == 5
        db.execute("SELECT embed_drop('articles')")


def test_only_if_decides_row_by_row(db, articles):
    create(db, columns=["body"], only_if="live")
    db.execute("SELECT embed_drain()")
    db.execute("UPDATE articles SET live = false WHERE id = 1")
    db.execute("UPDATE articles SET body = 'now', live = true WHERE id = 3")
    db.execute("UPDATE articles SET live = NULL WHERE id = 2")
    db.execute("SELECT embed_drain()")
    assert chunks(db) == {3: "now"}


def test_without_backfill_only_changed_rows_are_embedded(db, articles):
    create(db, columns=["body"], backfill=False)
    assert db.execute("SELECT embed_drain()").fetchone() == (0,)
    db.execute("UPDATE articles SET body = 'changed' WHERE id = 2")
    assert db.execute("SELECT embed_drain()").fetchone() == (1,)
    assert chunks(db) == {2: "changed"}


def test_manual_capture_sees_what_is_touched(db, articles):
    create(db, columns=["body"], capture="manual")
    db.execute("SELECT embed_drain()")
    assert db.execute("SELECT FROM pg_trigger WHERE tgname LIKE 'evergreen%'").fetchall() == []
    db.execute("UPDATE articles SET body = 'one'  WHERE id = 1")
    db.execute("UPDATE articles SET body = 'two' WHERE id = 2")
    db.execute("DELETE FROM articles WHERE id = 5")
    assert db.execute("SELECT embed_drain()").fetchone() == (0,)
    stale = db.execute("SELECT id, is_stale FROM articles_embedding ORDER BY id").fetchall()
    assert stale == [(1, True), (2, True)]  # exact all the same
    assert db.execute("SELECT embed_touch('articles', '[1]', '2', '[5]', '[77]')").fetchone() == (4,)
    assert db.execute("SELECT embed_drain()").fetchone() == (4,)
    assert chunks(db) == {1: "one", 2: "two"}


def test_the_view_can_have_another_name(db, articles):
    create(db, columns=["body"], view_name='Vectors of "articles"')
    db.execute("SELECT embed_drain()")
    assert chunks(db, '"Vectors of ""articles"""') == {1: "body", 2: "body only"}
    assert db.execute("SELECT to_regclass('articles_embedding')").fetchone() == (None,)


def test_the_default_model_is_resolved_and_stays(db, articles):
    db.execute("SELECT embed_setting('default_model', 'hash8')")
    create(db, columns=["body"], model=None)
    db.execute("SELECT embed_setting('default_model', 'wordllama-64')")
    assert db.execute("SELECT model FROM embed_pipelines").fetchone() == ("hash8",)
    db.execute("SELECT embed_drain()")
    assert db.execute("SELECT DISTINCT vector_dims(embedding), model FROM articles_embedding").fetchall() == [
        (8, "hash8")
    ]


SAME = {"columns": ["title", "body"], "only_if": "live", "chunker": '{"chunker": "text", "size": 90, "overlap": 0}'}
OTHER = {
    "source": "others",
    "columns": ["body", "title"],
    "template": "$title",
    "model": "hash16",
    "chunker": '{"chunker": "text", "size": 91, "overlap": 0}',
    "capture": "manual",
    "only_if": None,
    "options": '{"max_attempts": 9}',
    "view_name": "elsewhere",
}


def test_if_not_exists_accepts_only_the_same_definition(db, articles):
    hash_model(db, "hash16", 16)
    db.execute("CREATE TABLE others (LIKE articles INCLUDING ALL)")
    number = create(db, **SAME)
    before = db.execute("SELECT embed_get_def('articles')").fetchone()
    with pytest.raises(errors.DuplicateObject):
        create(db, **SAME)
    assert create(db, **SAME, if_not_exists=True) == number
    assert create(db, **SAME, if_not_exists=True, backfill=False, view_name="articles_embedding") == number
    for argument, value in OTHER.items():
        given = {"name": "articles", "source": "articles", "model": "hash8"} | SAME | {argument: value}
        if argument == "template":
            del given["columns"]
        named = ", ".join(f"{name} => %({name})s" for name in given)
        error = refused(db, f"SELECT embed_create({named}, if_not_exists => true)", given)
        assert error.sqlstate == "42710"
        assert argument in error.diag.message_primary, argument
    assert db.execute("SELECT embed_get_def('articles')").fetchone() == before


def test_if_not_exists_reads_templates_by_their_meaning(db, articles):
    number = create(db, template="$title $body")
    assert create(db, template="${title} ${body}", if_not_exists=True) == number


def test_notices_say_what_comes_next(db, articles):
    heard = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    create(db, columns=["body"])
    assert heard == ["5 rows to embed; next: SELECT embed_drain(), or SELECT embed_schedule() to keep them fresh"]


@pytest.mark.slow
def test_two_sessions_that_create_the_same_pipeline_make_one(connect, articles, db):
    first = connect(autocommit=False)
    create(first, columns=["body"])
    second = Background(connect(), "SELECT embed_create('articles', 'articles', columns => '{body}', model => 'hash8')")
    with pytest.raises(errors.DuplicateObject):
        second.result()  # at once, while the first is still open
    first.commit()
    assert db.execute("SELECT count(*) FROM embed_pipelines").fetchone() == (1,)
