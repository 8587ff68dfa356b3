"""DDL while a worker has rows of the source at the model: the owner does not wait for it, and no row is lost by it."""

import pytest

from tests.fixtures.pipelines.freshness import assert_fresh, drain, status, texts_in_view
from tests.fixtures.pipelines.owner_ddl import BROKEN, FOLLOWED, assert_others_go_on, cases, names_now
from tests.fixtures.waiting import Background

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

WORKERS = ("CALL embed_work(until_empty => true)", "SELECT embed_drain()")


@pytest.fixture
def at_the_model(connect, provider):
    """Starts a worker and returns it when the model has a request of it, which stays unanswered."""
    session = connect()

    def start(statement=WORKERS[0]):
        provider.reset()
        provider.hold()
        work = Background(session, statement)
        provider.wait_for_requests()
        return work

    return start


@pytest.fixture
def owner(connect):
    """A session that waits for no lock as long as a model would take."""
    session = connect(options="-c lock_timeout=5000 -c statement_timeout=20000")
    session.execute("SET search_path = app, application, public")
    return session


@pytest.mark.few(1)
@pytest.mark.parametrize("chain", FOLLOWED.values(), ids=FOLLOWED.keys())
def test_it_is_committed_before_the_model_answers_and_followed(db, live, owner, provider, at_the_model, chain):
    for number, ddl in enumerate(chain):
        table, key, body = names_now(db)
        live.execute(f"UPDATE {table} SET {body} = '\"sent {number}\"' WHERE {key} = 1")
        work = at_the_model(WORKERS[number % 2])
        for statement in ddl.split(";"):
            owner.execute(statement)
        table, key, body = names_now(db)
        live.execute(f"UPDATE {table} SET {body} = '\"edited {number}\"' WHERE {key} = 2")
        assert work.running, ddl
        provider.release()
        work.result()
        drain(db)
        assert_fresh(db, "docs", 3)
        assert_fresh(db, "template", 3)
        assert {text: provider.sent[text] for text in (f'"sent {number}"', f'"edited {number}"')} == {
            f'"sent {number}"': 1,
            f'"edited {number}"': 1,
        }, ddl
    assert_others_go_on(db)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("ddl", "write"),
    cases(BROKEN, "drop of the watched column", "drop of only_if", "drop of the primary key", "drop of the table"),
)
def test_a_pipeline_that_breaks_meanwhile_takes_no_worker_with_it(db, live, owner, provider, at_the_model, ddl, write):
    db.execute("ALTER TABLE other SET SCHEMA public; INSERT INTO other VALUES (5, 'of another pipeline')")
    live.execute("UPDATE docs SET body = '\"sent\"' WHERE id = 1")
    work = at_the_model()
    owner.execute(ddl)
    live.execute(write)
    assert work.running
    provider.release()
    work.result()
    drain(db)
    assert status(db, "docs").state == "broken"
    assert status(db, "template").state == ("active" if "live" in ddl else "broken")
    assert_fresh(db, "other", 1)


REWRITES = {
    "work, same type": (
        WORKERS[0],
        "ALTER TABLE docs ALTER body TYPE text USING upper(body)",
        {'"SENT"', '"TEXT 2"', '"TEXT 4"'},
    ),
    "drain, another type": (
        WORKERS[1],
        "ALTER TABLE docs ALTER body TYPE varchar(5) USING left(body, 5)",
        {'"sent', '"text'},
    ),
    "work, emptied": (WORKERS[0], "TRUNCATE docs", set()),
    "drain, emptied": (WORKERS[1], "TRUNCATE docs", set()),
}


@pytest.mark.few(2)
@pytest.mark.parametrize(("worker", "ddl", "texts"), REWRITES.values(), ids=REWRITES.keys())
def test_a_rewrite_that_changes_the_text_at_the_model(db, live, owner, provider, at_the_model, ddl, texts, worker):
    """What comes back is of the old text; no trigger fires for the new one."""
    live.execute("UPDATE docs SET body = '\"sent\"' WHERE id = 1")
    work = at_the_model(worker)
    owner.execute(ddl)
    assert work.running
    provider.release()
    work.result()
    assert_fresh(db, "docs", 3 if texts else 0)
    assert set(texts_in_view(db, "app.docs_embedding")) == texts


PARTITIONS = {
    "attach": (
        [
            "CREATE TABLE late (body text, gone int, id int NOT NULL); ALTER TABLE late DROP gone",
            "INSERT INTO late VALUES ('late', 205)",
            "ALTER TABLE t ATTACH PARTITION late FOR VALUES FROM (200) TO (300)",
            "UPDATE late SET body = 'late, edited'",
        ],
        {"low", "high", "late, edited"},
    ),
    "detach": (["ALTER TABLE t DETACH PARTITION low", "UPDATE low SET body = 'not ours'"], {"high"}),
    "detach concurrently": (["ALTER TABLE t DETACH PARTITION low CONCURRENTLY"], {"high"}),
    "drop": (["DROP TABLE low"], {"high"}),
    "truncate": (["TRUNCATE low", "INSERT INTO t VALUES (2, 'then')"], {"then", "high"}),
    "rename": (["ALTER TABLE low RENAME TO deep", "ALTER TABLE t RENAME body TO content"], {"low", "high"}),
    "move": (["UPDATE t SET id = 150 WHERE id = 1"], {"low", "high"}),
    "split": (
        [
            "BEGIN",
            "ALTER TABLE t DETACH PARTITION low",
            "CREATE TABLE low_a PARTITION OF t FOR VALUES FROM (0) TO (50)",
            "INSERT INTO t SELECT * FROM low",
            "DROP TABLE low",
            "COMMIT",
        ],
        {"low", "high"},
    ),
}


@pytest.mark.few(1)
@pytest.mark.parametrize(("ddl", "texts"), cases(PARTITIONS, "attach", "drop", "rename", "split"))
def test_partitions_that_come_and_go(db, model, owner, provider, at_the_model, ddl, texts):
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)")
    db.execute("CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (100)")
    db.execute("CREATE TABLE high PARTITION OF t FOR VALUES FROM (100) TO (200)")
    db.execute("SELECT embed_create('t', 't', columns => '{body}', model => 'loop')")
    db.execute("INSERT INTO t VALUES (1, 'low'), (101, 'high')")
    work = at_the_model()
    for statement in ddl:
        owner.execute(statement)
    assert work.running
    provider.release()
    work.result()
    assert_fresh(db, "t", len(texts))
    assert set(texts_in_view(db, "t_embedding")) == texts
