"""Views and counters under misuse: read only, after a restore, by other roles, with misleading names."""

import psycopg
import pytest

from tests.fixtures.dumps import create_empty, dump, restore
from tests.fixtures.pipelines.documents import assert_as_source, drain_once, shown
from tests.fixtures.pipelines.endpoints import CALLS, create, hurry, serve, table
from tests.fixtures.roles import people

pytestmark = pytest.mark.stress

VIEWS = ("embed_models", "embed_endpoints", "embed_usage", "embed_failures", "embed_status", "embed_pipelines")


def look(session):
    """Every view, as text."""
    return {view: str(session.execute(f"SELECT * FROM {view}").fetchall()) for view in VIEWS}


def full(db, provider):
    serve(db, provider, model={"price": 1}, requests_per_minute=1000, organization="org-secret-1")
    table(db, "docs", 3)
    create(db, daily_tokens=1000)
    drain_once(db)


@pytest.fixture
def restored(cluster, db, provider, tmp_path):
    """Restore the test's database into another one, where no worker has been."""
    name = f"{db.info.dbname}_restored"

    def make():
        create_empty(cluster, name)
        restore(cluster, name, dump(cluster, db.info.dbname, tmp_path, "custom"), "custom")
        return psycopg.connect(cluster.dsn(name), autocommit=True)

    yield make
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_views_can_be_read_in_read_only_transactions(connect, db, provider):
    full(db, provider)
    session = connect()
    session.execute("SET default_transaction_read_only = on")
    assert "loop" in look(session)["embed_models"]


def test_views_can_be_read_after_a_restore_before_any_worker(db, provider, restored):
    full(db, provider)
    with restored() as session:
        found = look(session)
        assert "closed" in found["embed_endpoints"]
        drain_once(session)
        assert_as_source(session)


def test_a_restored_model_serves_a_new_pipeline(db, provider, restored):
    """The dump has endpoints and models, and no pipeline yet."""
    serve(db, provider, requests_per_minute=1000)
    table(db, "docs", 3)
    with restored() as session:
        create(session, daily_tokens=1000)
        drain_once(session)
        assert_as_source(session)


def test_a_restored_function_model_serves_a_new_pipeline(db, provider, restored):
    db.execute(
        "CREATE FUNCTION toy(texts text[]) RETURNS vector[] LANGUAGE sql"
        " RETURN (SELECT array_agg('[1,2]'::vector) FROM unnest(texts))"
    )
    db.execute("SELECT embed_model_add('toy', 'function', 2, 'toy')")
    table(db, "docs", 3)
    with restored() as session:
        create(session, "docs", "toy")
        drain_once(session)
        assert len(shown(session)) == 3


@pytest.mark.parametrize(
    "lost", ["endpoint_1_failures", "endpoint_1_tokens", "model_100_failures", "pipeline_1_tokens"]
)
def test_views_and_work_survive_a_lost_counter(db, provider, lost):
    """A user dropped a sequence that looked odd."""
    full(db, provider)
    db.execute(f"ALTER EXTENSION evergreen DROP SEQUENCE embed.{lost}; DROP SEQUENCE embed.{lost}")
    look(db)
    db.execute("UPDATE docs SET body = 'edited'")
    drain_once(db)
    hurry(db)
    drain_once(db)
    assert_as_source(db)


def test_views_show_strangers_nothing_that_is_not_theirs(connect, db, provider):
    people(db)
    full(db, provider)
    found = look(connect("bob"))
    for view in ("embed_endpoints", "embed_usage", "embed_failures", "embed_status", "embed_pipelines"):
        assert found[view] == "[]"
    assert "org-secret-1" not in str(found)
    assert "127.0.0.1" not in str(found)
    admin = look(connect("the_admin"))
    assert "closed" in admin["embed_endpoints"]


@pytest.mark.parametrize("role", ["bob", "alice", "the_worker", "the_payer"])
def test_counters_are_ours_alone(connect, db, provider, role):
    people(db)
    full(db, provider)
    session = connect(role)
    for statement in (
        "SELECT setval('embed.endpoint_1_rests_until', 9223372036854775807)",
        "SELECT last_value FROM embed.endpoint_1_requests",
        "SELECT nextval('embed.pipeline_1_tokens')",
        "SELECT embed.endpoint_state(1)",
        "SELECT embed.model_problem(1)",
        "SELECT embed.spent_budgets(1, '{}')",
        "SELECT embed_endpoint_set('loop', 'http://127.0.0.1:1/v1')",
        "SELECT embed_model_drop('loop')",
        """SELECT embed_alter('docs', '{"daily_tokens": null}')""",
    ):
        with pytest.raises(psycopg.Error) as found:
            session.execute(statement)
        assert found.value.sqlstate in {"42501", "3F000", "42704"}, statement


def test_names_like_ours_do_not_mislead(connect, db, provider):
    """Tables, sequences and functions of a user's that are named as ours are, first on the path, temporary too."""
    people(db)
    full(db, provider)
    for session in (db, connect()):
        session.execute("CREATE SCHEMA IF NOT EXISTS before; SET search_path = before, public")
        session.execute("CREATE TEMP SEQUENCE endpoint_1_failures; CREATE TEMP SEQUENCE model_100_rests_until")
        session.execute("CREATE TEMP SEQUENCE pipeline_1_tokens; CREATE TEMP TABLE usage (a int)")
    db.execute("CREATE TABLE before.pipeline (id int); CREATE TABLE before.endpoint (id int)")
    trap = "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'caught'; END $$"
    db.execute(f"CREATE FUNCTION before.setval(regclass, bigint) RETURNS bigint {trap}")
    db.execute(f"CREATE FUNCTION before.clock_timestamp() RETURNS timestamptz {trap}")
    db.execute(f"CREATE FUNCTION before.trap(jsonb, text) RETURNS text {trap}")
    db.execute("CREATE OPERATOR before.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = before.trap)")
    db.execute(f"CREATE FUNCTION before.pg_try_advisory_lock(int, int) RETURNS bool {trap}")
    db.execute("SET search_path = before, pg_catalog, public")
    db.execute("UPDATE docs SET body = 'edited'")
    look(db)
    drain_once(db)
    db.execute("UPDATE docs SET body = 'again'")
    db.execute(CALLS["work"])
    db.execute("RESET search_path")
    assert_as_source(db)
