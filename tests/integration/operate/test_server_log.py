"""The server's log says in one line each what became of endpoints, budgets, rows, pipelines and generations."""

import psycopg
import pytest

from tests.fixtures.pipelines.documents import drain_all, drain_once
from tests.fixtures.pipelines.endpoints import CALLS, create, let_time_pass, rest_longer, serve, table
from tests.fixtures.roles import hash_model, people
from tests.fixtures.server.log import ServerLog

pytestmark = pytest.mark.shared_database


@pytest.fixture
def log(cluster):
    return ServerLog(cluster)


@pytest.fixture
def said(db):
    """What the client was told."""
    heard: list[str] = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    return heard


def test_a_provider_that_goes_away_and_comes_back(db, docs, provider, log, said):
    serve(db, provider)
    create(db)
    provider.answer = lambda _: (503, b"nobody at home but sk-12345")
    while not log.events("breaker_opened"):
        db.execute(CALLS["work"])
        let_time_pass(db)
    opened, failed = log.one("breaker_opened"), log.events("model_failed")
    assert (opened.level, opened.details["endpoint"], opened.details["failures"]) == ("WARNING", "loop", "3")
    assert opened.details["rests_until"].endswith("Z")
    assert {event.details["pipeline"] for event in failed} == {"docs"}
    assert {event.details["reason"] for event in failed} == {"answered 503"}
    db.execute(CALLS["work"])  # a failing probe opens no breaker again
    assert len(log.events("breaker_opened")) == 1
    provider.answer = None
    let_time_pass(db)
    drain_all(db)
    assert log.one("breaker_closed").details == {"event": "breaker_closed", "endpoint": "loop"}
    assert not any("event=" in one for one in said)
    told = str([event.details for event in log.events()])
    assert "sk-12345" not in told
    assert "body 1" not in told
    for event in log.events():
        assert not event.after.lstrip().startswith(("CONTEXT", "STATEMENT", "HINT", "DETAIL")), event


def test_settings_of_the_session_are_as_they_were(db, docs, provider, log):
    """Also in a transaction, where they would last to its end."""
    serve(db, provider)
    names = ("client_min_messages", "log_error_verbosity", "log_min_error_statement")
    for name, value in zip(names, ("info", "verbose", "warning"), strict=True):
        db.execute(f"SET {name} = {value}")
    with db.transaction():
        db.execute("SELECT embed_endpoint_set('loop', %s)", (provider.url,))
        assert [db.execute(f"SHOW {name}").fetchone()[0] for name in names] == ["info", "verbose", "warning"]
    assert log.names() == ["endpoint_set", "endpoint_set"]


def test_a_key_that_is_refused(db, docs, provider, log):
    serve(db, provider)
    create(db)
    provider.answer = lambda _: (401, b'{"error": {"message": "Incorrect API key provided: sk-secret"}}')
    drain_once(db)
    assert log.one("breaker_opened").details["model"] == "loop"
    failed = log.one("model_failed")
    assert (failed.details["kind"], failed.details["reason"]) == ("configuration", "answered 401")
    assert (failed.details["rows"], failed.details["model"]) == ("10", "loop")
    assert "sk-secret" not in str([event.details for event in log.events()])
    rest_longer(db)
    db.execute("SELECT embed_endpoint_set('loop', %s)", (provider.url,))
    assert log.names()[-1] == "endpoint_set"


@pytest.mark.slow
def test_rows_that_are_given_up(db, docs, provider, log):
    serve(db, provider)
    create(db)
    provider.answer = lambda texts: (400, b"I do not like body 3") if any("body 3" in t for t in texts) else None
    drain_all(db)
    given_up = log.one("rows_dead_lettered")
    assert given_up.level == "WARNING"
    assert (given_up.details["rows"], given_up.details["kind"]) == ("1", "permanent")
    assert given_up.details["reason"] == "answered 400"


@pytest.mark.slow
def test_a_budget_is_spent_once_a_day(db, docs, provider, log):
    """Whether the next text does not fit or nothing is left; each request checks again."""
    serve(db, provider, model={"inputs": 1})
    table(db, "notes", 10)
    create(db, daily_tokens=5)
    create(db, "notes", daily_tokens=10)
    for _ in range(2):  # a text costs 4 tokens, or 2
        db.execute(CALLS["work"])
        let_time_pass(db)
    assert db.execute("SELECT DISTINCT state FROM embed_status").fetchall() == [("over budget",)]
    spent = sorted(log.events("budget_exhausted"), key=lambda event: event.details["pipeline"])
    assert [(one.level, one.details["pipeline"], one.details["limit"]) for one in spent] == [
        ("WARNING", "docs", "5"), ("WARNING", "notes", "10"),
    ]  # fmt: skip
    assert log.events("model_failed") == []
    assert all(one.details["kind"] == "tokens" and one.details["until"].endswith("T00:00:00Z") for one in spent)


def test_a_pipeline_that_breaks_and_is_mended(connect, db, log):
    """By DDL of a plain owner, who sees no message."""
    people(db)
    hash_model(db)
    alice = connect("alice")
    heard: list[str] = []
    alice.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    alice.execute("CREATE TABLE alice.docs (id int PRIMARY KEY, body text, on_line bool)")
    alice.execute(
        "SELECT public.embed_create('my \"docs\"\n2', 'alice.docs', columns => '{body}', model => 'hash8',"
        " only_if => 'on_line', view_name => 'v')"
    )
    heard.clear()
    alice.execute("ALTER TABLE alice.docs ALTER on_line TYPE text USING on_line::text")
    broken = log.one("pipeline_broken")
    assert (broken.level, broken.details["pipeline"]) == ("WARNING", 'my "docs"\n2')
    assert "no longer boolean" in broken.details["reason"]
    alice.execute("ALTER TABLE alice.docs ALTER on_line TYPE bool USING on_line::bool")
    assert log.one("pipeline_recovered").details["pipeline"] == 'my "docs"\n2'
    assert heard == []
    alice.execute("DROP TABLE alice.docs CASCADE")
    assert log.names()[-1] == "pipeline_broken"


@pytest.mark.fresh_database
def test_generations_come_and_go(db, docs, log, said):
    hash_model(db)
    hash_model(db, "hash16", 16)
    create(db, model="hash8")
    drain_all(db)
    db.execute("SELECT embed_build('docs', model => 'hash16')")
    drain_all(db)
    db.execute("SELECT embed_promote('docs')")
    db.execute("SELECT embed_rollback('docs')")
    db.execute("SELECT embed_retire('docs')")
    assert log.names() == [
        "generation_started", "generation_promoted", "generation_rolled_back", "generation_retired",
    ]  # fmt: skip
    promoted = log.one("generation_promoted").details
    assert (promoted["generation"], promoted["instead_of"], promoted["model"]) == ("2", "1", "hash16")
    assert not any("event=" in one for one in said)


@pytest.mark.slow
def test_batches_are_told_of_only_where_that_is_asked_for(db, docs, provider, log):
    serve(db, provider)
    create(db)
    drain_all(db)
    assert log.events() == [log.one("endpoint_set")]
    db.execute("SET log_min_messages = debug2")
    db.execute("UPDATE docs SET body = 'edited' WHERE id < 4")
    db.execute(CALLS["work"])
    done = log.one("batch_done").details
    assert (done["pipeline"], done["lane"], done["rows"], done["texts"]) == ("docs", "live", "3", "3")


@pytest.mark.fresh_database
def test_a_worker_logs_why_a_pipeline_backs_off(db, docs, log):
    """What the database said of a row may be of that row: only its SQLSTATE is in the line."""
    hash_model(db)
    create(db, model="hash8")
    db.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
               " $$ BEGIN RAISE EXCEPTION 'no % here', NEW.chunk; END $$")  # fmt: skip
    db.execute("CREATE TRIGGER refuse BEFORE INSERT ON embed_store.g1 FOR EACH ROW EXECUTE FUNCTION refuse()")
    db.execute("CALL embed_work(max_runtime => '1 s')")
    rests = log.events("pipeline_backed_off")
    assert {(event.details["pipeline"], event.details["reason"]) for event in rests} == {("docs", "P0001")}


def test_no_role_writes_to_the_log_by_itself(connect, db, docs, log):
    people(db)
    bob = connect("bob")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bob.execute("SELECT public.embed_elevate()")
    assert log.events() == []
