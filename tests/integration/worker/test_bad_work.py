"""One bad row, model or pipeline delays no other."""

from math import log2

import psycopg
import pytest

from tests.fixtures.pipelines.documents import (
    assert_as_source,
    drain_all,
    drain_once,
    rested,
    shown,
    source_texts,
    stale_keys,
    status_of,
)
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

ROWS = 200


def refuse_poison(texts):
    return (400, b"no poison please") if any("poison" in text for text in texts) else None


def make_docs(db, poison=(), source="docs"):
    db.execute(f"CREATE TABLE {source} (id int PRIMARY KEY, title text, body text)")
    db.execute(
        f"INSERT INTO {source} SELECT i, 'title ' || i, CASE WHEN i = ANY (%s) THEN 'poison' ELSE 'body ' || i END"
        " FROM generate_series(1, %s) i",
        (list(poison), ROWS),
    )


def create(db, pipeline="docs", model="loop", **options):
    given = "".join(f", {name} => '{value}'" for name, value in options.items())
    db.execute(
        f"SELECT embed_create('{pipeline}', '{pipeline}', columns => '{{title,body}}', model => '{model}'{given})"
    )


def assert_all_but(db, poison):
    texts = source_texts(db)
    assert {key: chunk for key, (chunk, _) in shown(db).items()} == {k: t for k, t in texts.items() if k not in poison}
    assert status_of(db, "fresh") == ROWS - len(poison)
    assert status_of(db, "failed") == len(poison)
    assert status_of(db, "pending") == status_of(db, "in_flight") == 0


@pytest.mark.slow
@pytest.mark.parametrize(("poison", "in_flight"), [(1, 1), (1, 4), (ROWS // 2, 4), (ROWS, 1)])
def test_one_refused_text_costs_few_calls_and_no_other_row(db, provider, poison, in_flight):
    """Wherever it stands in the batch, and however many requests fly at once."""
    db.execute(
        "SELECT embed_endpoint_set('loop', %s, options => %s)", (provider.url, f'{{"max_in_flight": {in_flight}}}')
    )
    db.execute("SELECT embed_model_add('loop', 'openai', 8, endpoint => 'loop')")
    make_docs(db, [poison])
    create(db)
    provider.answer = refuse_poison
    drain_once(db)
    assert_all_but(db, {poison})
    assert len(provider.requests) <= 2 * log2(ROWS) + 8
    assert "no poison please" in status_of(db, "last_error")
    provider.reset()
    assert drain_once(db) == 0  # a dead letter: not tried again by itself …
    assert provider.requests == []
    db.execute("UPDATE docs SET body = 'harmless' WHERE id = %s", (poison,))
    drain_once(db)  # … but when it changes
    assert_as_source(db)
    assert status_of(db, "failed") == 0
    assert provider.sent.total() == 1


@pytest.mark.slow
def test_several_refused_texts_in_one_batch(db, model, provider):
    poison = {1, 2, 70, 199}
    make_docs(db)
    db.execute("UPDATE docs SET body = 'poison ' || id WHERE id = ANY (%s)", (list(poison),))
    create(db)
    provider.answer = refuse_poison
    drain_once(db)
    assert_all_but(db, poison)


@pytest.mark.parametrize("poison", [1, ROWS])
def test_a_function_that_raises_for_one_text(db, poison):
    db.execute("""
        CREATE SEQUENCE calls;
        CREATE FUNCTION picky(texts text[]) RETURNS vector[] LANGUAGE plpgsql SET search_path = public AS $$
        BEGIN
            PERFORM nextval('calls');
            IF array_to_string(texts, ' ') ~ 'poison' THEN
                RAISE EXCEPTION 'no poison please';
            END IF;
            RETURN (SELECT array_agg(format('[%s,1,2]', length(t))::vector ORDER BY n)
                    FROM unnest(texts) WITH ORDINALITY u (t, n));
        END $$""")
    db.execute("SELECT embed_model_add('picky', 'function', 3, remote_name => 'public.picky')")
    make_docs(db, [poison])
    create(db, model="picky")
    drain_once(db)
    assert_all_but(db, {poison})
    assert db.execute("SELECT last_value FROM calls").fetchone()[0] <= 2 * log2(ROWS) + 8
    assert "no poison please" in status_of(db, "last_error")


@pytest.mark.slow
def test_a_model_that_is_down_costs_time_and_nothing_else(db, docs, model, provider):
    """More passes fail than a row has attempts; other pipelines go on; then the rows become fresh by themselves."""
    create(db, options='{"max_attempts": 1}')
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO notes SELECT id, title, body FROM docs")
    create(db, "notes", "wordllama-64")
    provider.answer = lambda _: (500, b"out of order")
    assert drain_once(db) == 10  # those of the other pipeline
    assert len(shown(db, "notes")) == 10
    for _ in range(2):
        db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
        assert drain_once(db) == 0
    assert status_of(db, "failed") == 0
    assert status_of(db, "pending") == 10
    assert "500" in status_of(db, "last_error")
    # Not asked at every turn either.
    before = len(provider.requests)
    assert drain_once(db) == 0
    assert len(provider.requests) == before
    provider.answer = None
    wait_until(lambda: drain_once(db) and len(shown(db)) == 10, what="ten rows tried again by themselves")
    assert_as_source(db)


@pytest.mark.slow
def test_a_worker_goes_on_with_other_pipelines_while_a_model_is_down(connect, db, docs, model, provider):
    create(db)
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("INSERT INTO notes SELECT id, title, body FROM docs")
    create(db, "notes", "wordllama-64")
    provider.answer = lambda _: (503, b"busy")
    connect().execute("CALL embed_work(until_empty => true, max_runtime => '20 s')")
    assert len(shown(db, "notes")) == 10
    assert status_of(db, "pending") == 10
    provider.answer = None
    rested(db)
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    connect().execute("CALL embed_work(until_empty => true, max_runtime => '20 s')")
    assert_as_source(db)


@pytest.fixture
def broken_value(db, model):
    """Ten rows, one of which has a value that its own type cannot print any more."""
    db.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'bad')")
    db.execute("CREATE TABLE odd (id int PRIMARY KEY, title mood)")
    db.execute("INSERT INTO odd SELECT i, CASE WHEN i = 4 THEN 'bad' ELSE 'ok' END::mood FROM generate_series(1, 10) i")
    db.execute("SELECT embed_create('odd', 'odd', columns => '{title}', model => 'loop')")
    db.execute("DELETE FROM pg_enum WHERE enumtypid = 'mood'::regtype AND enumlabel = 'bad'")


@pytest.mark.fresh_database
@pytest.mark.slow
@pytest.mark.parametrize("rows", [1000, 1])
def test_a_row_that_cannot_be_read(db, broken_value, rows):
    for _ in range(12):
        db.execute("SELECT embed_drain(max_rows => %s)", (rows,))
    done = db.execute("SELECT key FROM embed.document WHERE generation = 1 ORDER BY key").fetchall()
    assert [row[0][0] for row in done] == [i for i in range(1, 11) if i != 4]
    assert status_of(db, "failed", "odd") == 1
    assert "enum" in status_of(db, "last_error", "odd")


@pytest.fixture
def forbidden(db, model):
    """A pipeline whose source its own owner may not read any more, created before any other."""
    db.execute("CREATE ROLE owner_without_rights")
    db.execute("CREATE TABLE odd (id int PRIMARY KEY, title text)")
    db.execute("INSERT INTO odd VALUES (1, 'one')")
    db.execute("ALTER TABLE odd OWNER TO owner_without_rights")
    db.execute("SELECT embed_create('odd', 'odd', columns => '{title}', model => 'loop')")
    db.execute("REVOKE ALL ON odd FROM owner_without_rights")
    yield
    db.execute("SELECT embed_drop('odd')")
    db.execute("DROP TABLE odd")
    db.execute("DROP ROLE owner_without_rights")


@pytest.mark.slow
def test_a_source_that_cannot_be_read_leaves_the_other_pipelines_alone(connect, db, docs, forbidden):
    """Neither a drain's nor a worker's pass over all pipelines ends there, in the backfill as with live edits."""
    create(db)
    drain_all(db)
    assert_as_source(db)
    db.execute("UPDATE docs SET body = 'edited ' || id")
    db.execute("INSERT INTO odd VALUES (2, 'two')")
    drain_all(db)
    assert_as_source(db)
    db.execute("UPDATE docs SET body = 'again ' || id")
    worker = connect()
    work = Background(worker, "CALL embed_work()")
    wait_until(lambda: stale_keys(db) == [], what="the edited rows")
    worker.cancel()
    with pytest.raises(psycopg.errors.QueryCanceled):
        work.result()
    assert_as_source(db)
    assert "permission denied" in status_of(db, "last_error", "odd")
    assert status_of(db, "failed", "odd") == 0
    db.execute("GRANT SELECT ON odd TO owner_without_rights")
    wait_until(lambda: drain_once(db, "odd") and len(shown_keys(db)) == 2, what="the rows that may be read again")


def shown_keys(db):
    return db.execute("SELECT key FROM odd_embedding").fetchall()


REFUSED = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON embed.job FOR EACH ROW EXECUTE FUNCTION refuse()
"""


def test_a_batch_that_fails_late_is_not_written_in_part(db, pipeline, provider):
    """Its documents and chunks are written before its jobs are deleted, which fails."""
    provider.reset()
    before = shown(db)
    db.execute("UPDATE docs SET body = 'edited' WHERE id <= 3")
    db.execute(REFUSED)
    db.execute("CALL embed_work(until_idle => true)")
    assert shown(db) == before
    assert stale_keys(db) == [1, 2, 3]
    db.execute("DROP TRIGGER refuse ON embed.job")
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
    drain_all(db)
    assert_as_source(db)
    assert provider.sent == dict.fromkeys(provider.sent, 1)
