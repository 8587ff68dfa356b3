"""Rights on the source decide: who may only write it is captured, who has none sees and changes nothing."""

import psycopg
import pytest

from tests.fixtures.error_checks import complaint, refused
from tests.fixtures.roles import hash_model, people

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

MAY_NOT_ADMINISTER = {
    "embed_alter": "SELECT embed_alter('docs', '{\"max_attempts\": 1}')",
    "embed_drop": "SELECT embed_drop('docs')",
    "embed_drop if exists": "SELECT embed_drop('docs', if_exists => true)",
    "embed_pause": "SELECT embed_pause('docs')",
    "embed_resume": "SELECT embed_resume('docs')",
    "embed_touch": "SELECT embed_touch('docs', '[1]')",
    "embed_verify": "SELECT * FROM embed_verify('docs')",
    "embed_verify repair": "SELECT * FROM embed_verify('docs', repair => true)",
    "embed_explain": "SELECT embed_explain('docs', '[1]')",
    "embed_backfill": "SELECT embed_backfill('docs')",
    "embed_retry": "SELECT embed_retry('docs')",
    "embed_retry a row": "SELECT embed_retry('docs', '[1]')",
    "embed_forget": "SELECT embed_forget('docs', '[1]')",
    "embed_estimate": "SELECT * FROM embed_estimate('docs')",
    "embed_create again": "SELECT embed_create('docs', 'alice.docs', columns => '{body}', if_not_exists => true)",
    "embed_create another": "SELECT embed_create('mine', 'alice.docs', columns => '{body}')",
}
MAY_NOT_ASK = {
    "embed_get_def": "SELECT embed_get_def('docs')",
    "embed_search": "SELECT * FROM embed_search('docs', 'body')",
    "embed_query": "SELECT embed_query('docs', 'body')",
    "embed_search_rows": "SELECT * FROM embed_search_rows(NULL::alice.docs, 'body')",
    "embed_search_rows by name": "SELECT * FROM embed_search_rows(NULL::alice.docs, 'body', pipeline => 'docs')",
}
MAY_NOT_WORK = {
    "embed_drain": "SELECT embed_drain()",
    "embed_work": "CALL embed_work(until_empty => true)",
    "embed_schedule": "SELECT embed_schedule()",
    "embed_unschedule": "SELECT embed_unschedule()",
    "embed_model_add": "SELECT embed_model_add('m', 'hash', 8)",
    "embed_model_accept": "SELECT embed_model_accept('hash8')",
    "embed_model_drop": "SELECT embed_model_drop('hash8')",
    "embed_endpoint_set": "SELECT embed_endpoint_set('e', 'http://127.0.0.1:1/v1')",
    "embed_setting": "SELECT embed_setting('default_model', 'wordllama-64')",
}
CLOSED = {
    "queue": "SELECT * FROM embed.job",
    "documents": "SELECT * FROM embed.document",
    "change log": "SELECT * FROM embed.change_log",
    "change log, writing": "INSERT INTO embed.change_log (pipeline, key) VALUES (1, '[1]')",
    "cache": "SELECT * FROM embed.cache",
    "endpoints": "SELECT * FROM embed.endpoint",
    "tokens": "SELECT nextval('embed.token')",
    "internal function": "SELECT embed.refresh(1)",
    "errors of jobs": "SELECT * FROM embed.job_figures(1, 1, true)",
    "changes": "SELECT * FROM embed.change_log_figures(1, 1)",
    "messages of dead letters": "SELECT * FROM embed.failure_figures(1, 1)",
    "usage with other owners' pipelines": "SELECT * FROM embed.usage_totals(1, true)",
    "lags": "SELECT * FROM embed.lag_percentiles(1)",
    "row count of any table": "SELECT embed.estimate_rows('alice.docs'::regclass)",
    "generation table": "SELECT * FROM embed_store.g1",
    "source hash": "SELECT * FROM embed_store.src_1()",
    "reader": "SELECT * FROM embed_store.reader_1('[[1]]')",
    "scan": "SELECT * FROM embed_store.scan_1(NULL, 10)",
    "view": "SELECT * FROM alice.docs_embedding",
    "statement of embed_search_rows": "SELECT embed_search_rows_sql('alice.docs', 'q', 3, 'docs')",
    "pipeline of a table": "SELECT embed_search_rows_pipeline('alice.docs')",
    "elevate": "SELECT embed_elevate()",
    "elevate, stable": "SELECT embed_elevate_stable()",
}


@pytest.fixture
def alices(db, connect):
    """A pipeline of alice's, drained."""
    people(db)
    hash_model(db)
    db.execute("CREATE TABLE alice.docs (id int PRIMARY KEY, body text)")
    db.execute("ALTER TABLE alice.docs OWNER TO alice")
    db.execute("INSERT INTO alice.docs SELECT i, 'body ' || i FROM generate_series(1, 5) i")
    connect("alice").execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain()")


def test_a_role_that_may_only_write_is_captured(db, connect, alices):
    db.execute("GRANT INSERT, UPDATE, DELETE, SELECT (id) ON alice.docs TO bob")
    bob = connect("bob")
    bob.execute("INSERT INTO alice.docs VALUES (6, 'six')")
    bob.execute("UPDATE alice.docs SET body = 'one' WHERE id = 1")
    bob.execute("UPDATE alice.docs SET id = 22 WHERE id = 2")
    bob.execute("DELETE FROM alice.docs WHERE id = 3")
    db.execute("SELECT embed_drain()")
    rows = db.execute("SELECT key, chunk FROM alice.docs_embedding ORDER BY id").fetchall()
    assert rows == [([1], "one"), ([4], "body 4"), ([5], "body 5"), ([6], "six"), ([22], "body 2")]
    assert {state: n for state, n in db.execute("SELECT * FROM embed_verify('docs')") if n} == {"fresh": 5}


def test_a_reader_may_not_administer(db, connect, alices):
    db.execute("GRANT SELECT ON alice.docs TO bob")
    bob = connect("bob")
    found = {name: complaint(db, bob, statement) for name, statement in MAY_NOT_ADMINISTER.items()}
    assert found == dict.fromkeys(MAY_NOT_ADMINISTER, ("42501", None))


def test_for_a_stranger_the_pipeline_does_not_exist(db, connect, alices):
    """The same message as for an unused name, so that it does not reveal whether the object exists."""
    bob = connect("bob")
    for statement in [*MAY_NOT_ADMINISTER.values(), *MAY_NOT_ASK.values()]:
        error = refused(bob, statement, count_as=db)
        assert error.sqlstate == ("42501" if "embed_create" in statement else "42704"), statement
        if "alice.docs" not in statement and "if_exists" not in statement:
            unknown = error_of(bob, statement.replace("'docs'", "'unknown'"))
            assert unknown == error.diag.message_primary.replace("docs", "unknown")


def error_of(session, statement):
    with pytest.raises(psycopg.Error) as caught:
        session.execute(statement)
    return caught.value.diag.message_primary


def test_work_and_models_need_their_roles(connect, alices):
    """Owning a pipeline gives none of these."""
    for session in (connect("bob"), connect("alice")):
        for statement in MAY_NOT_WORK.values():
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)


def test_nothing_inside_can_be_reached(connect, alices):
    bob = connect("bob")
    for statement in CLOSED.values():
        with pytest.raises(psycopg.Error) as caught:
            bob.execute(statement)
        assert caught.value.sqlstate in {"42501", "42704"}, statement


def test_the_doors_open_for_nobody_who_knocks(db, alices):
    for door in ("embed_elevate()", "embed_elevate_stable()"):
        assert refused(db, f"SELECT {door}").sqlstate == "42501"
        assert refused(db, f"SELECT embed_setting('default_model'), {door}").sqlstate == "42501"


def test_views_show_a_stranger_nothing_and_a_reader_no_more_than_that_it_is_there(db, connect, alices):
    bob = connect("bob")
    for view in ("embed_status", "embed_pipelines"):
        assert bob.execute(f"SELECT count(*) FROM {view}").fetchone() == (0,)
    bob.execute(
        """CREATE FUNCTION pg_temp.leak(t text) RETURNS bool LANGUAGE plpgsql COST 0.0001
           AS $$BEGIN RAISE NOTICE '%', t; RETURN true; END$$"""
    )
    heard = []
    bob.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    for view in ("embed_status", "embed_pipelines"):
        bob.execute(f"SELECT count(*) FROM {view} WHERE pg_temp.leak(pipeline)")
    assert heard == []
    db.execute("GRANT SELECT ON alice.docs TO bob")
    assert bob.execute("SELECT pipeline FROM embed_status").fetchall() == [("docs",)]


@pytest.mark.fresh_database
def test_the_trigger_function_cannot_be_attached_to_a_table_of_ones_own(db, connect, alices):
    bob = connect("bob")
    bob.execute("CREATE TABLE bob.mine (id int PRIMARY KEY, body text)")
    attach = "CREATE TRIGGER t AFTER INSERT ON bob.mine FOR EACH ROW EXECUTE FUNCTION embed_store.capture_1()"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bob.execute(attach)
    db.execute("GRANT USAGE ON SCHEMA embed_store TO bob")  # even then
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bob.execute(attach)


def test_owner_members_of_the_owner_and_admins_administer(connect, alices):
    for role in ("alice", "deputy", "the_admin"):
        session = connect(role)
        for name, statement in MAY_NOT_ADMINISTER.items():
            if not name.startswith(("embed_drop", "embed_create")):
                session.execute(statement)
        session.execute("SELECT embed_create('second', 'alice.docs', columns => '{body}')")
        assert session.execute("SELECT count(*) FROM embed_status").fetchone() == (2,)
        session.execute("SELECT embed_drop('second')")


def test_ownership_of_a_pipeline_follows_its_source(db, connect, alices):
    db.execute("ALTER TABLE alice.docs OWNER TO bob")
    connect("bob").execute(MAY_NOT_ADMINISTER["embed_alter"])
    with pytest.raises(psycopg.errors.UndefinedObject):
        connect("alice").execute(MAY_NOT_ADMINISTER["embed_alter"])
    db.execute("GRANT USAGE ON SCHEMA alice TO bob")
    db.execute("UPDATE alice.docs SET body = 'new' WHERE id = 1")
    assert db.execute("SELECT embed_drain()").fetchone() == (1,)  # read with bob's rights now


def test_the_current_user_counts(db, connect, alices):
    """SET ROLE takes rights away, a SECURITY DEFINER function of the owner's lends them."""
    superuser = connect()
    superuser.execute("SET ROLE bob")
    with pytest.raises(psycopg.errors.UndefinedObject):
        superuser.execute("SELECT embed_pause('docs')")
    connect("alice").execute(
        """CREATE FUNCTION alice.pause() RETURNS void LANGUAGE sql SECURITY DEFINER
           AS $$SELECT public.embed_pause('docs')$$"""
    )
    connect("bob").execute("SELECT alice.pause()")
    assert db.execute("SELECT state FROM embed_status").fetchone() == ("paused",)
    db.execute(
        """CREATE FUNCTION bob.lend() RETURNS void LANGUAGE sql SECURITY DEFINER
           AS $$SELECT public.embed_resume('docs')$$"""
    )
    db.execute("ALTER FUNCTION bob.lend() OWNER TO bob")
    with pytest.raises(psycopg.errors.UndefinedObject):  # the superuser calls, bob asks
        db.execute("SELECT bob.lend()")


def test_workers_work_without_seeing(connect, alices):
    worker = connect("the_worker")
    connect("alice").execute("UPDATE alice.docs SET body = 'new'")
    assert worker.execute("SELECT embed_drain()").fetchone() == (5,)
    connect("alice").execute("UPDATE alice.docs SET body = 'newer'")
    worker.execute("CALL embed_work(until_empty => true)")
    assert connect("alice").execute("SELECT DISTINCT chunk FROM alice.docs_embedding").fetchall() == [("newer",)]
    for statement in (CLOSED["queue"], CLOSED["view"], MAY_NOT_ADMINISTER["embed_pause"]):
        with pytest.raises(psycopg.Error):
            worker.execute(statement)


def test_creating_a_view_needs_the_right_to_create_in_its_schema(db, connect, alices):
    """Else owning one table in a schema would be enough to put a relation of any name there."""
    db.execute("CREATE SCHEMA shop")
    db.execute("GRANT USAGE ON SCHEMA shop TO bob")
    db.execute("CREATE TABLE shop.docs (id int PRIMARY KEY, body text)")
    db.execute("ALTER TABLE shop.docs OWNER TO bob")
    statement = "SELECT embed_create('mine', 'shop.docs', columns => '{body}', view_name => 'customers')"
    assert refused(connect("bob"), statement, count_as=db).sqlstate == "42501"
    db.execute("GRANT CREATE ON SCHEMA shop TO bob")
    connect("bob").execute(statement)
