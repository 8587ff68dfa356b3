"""The database that tests of a module share is like a new one after each."""

import pytest
from pytest_postgresql.executors import NoopExecutor

from evergreen_host.cluster import Cluster
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.server.shared import SharedDatabase

LEFT = [
    "CREATE TABLE docs (id int PRIMARY KEY, title text, body text)",
    "INSERT INTO docs SELECT i FROM generate_series(1, 9) i",
    "CREATE SCHEMA app; CREATE VIEW app.v AS SELECT 1 AS one; CREATE TYPE mood AS ENUM ('sad')",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SEQUENCE s",
    "SET search_path = app; SET statement_timeout = '1 min'; LISTEN something; CREATE TEMP TABLE t ()",
    "SELECT public.embed_setting('lease', '7 minutes')",
]
#: What an emptied database cannot be rid of: it is made again.
STUBBORN = [
    "CREATE CAST (text AS jsonb) WITH INOUT",
    "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''5MB''', current_database()); END$$",
    "UPDATE embed.model SET options = '{\"price\": 1}' WHERE name = 'wordllama-64'",
]


@pytest.fixture
def own(cluster: Cluster, template: NoopExecutor):
    shared = SharedDatabase(cluster, "shared_by_none", template.template_dbname)
    yield shared
    shared.drop()


def test_what_a_test_leaves_is_gone(own, provider: LoopbackProvider):
    session, new = own.session, own.census()
    for statement in LEFT[:-2]:
        session.execute(statement)
    provider.register(session)
    session.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    session.execute("UPDATE docs SET body = 'a body'")
    drain_all(session)
    for statement in LEFT[-2:]:
        session.execute(statement)
    assert own.census() != new
    own.empty()
    assert own.session is session, "and nothing had to be made again"
    assert own.census() == new
    (settings,) = session.execute("SELECT array_agg(setting) FROM pg_settings WHERE source = 'session'").fetchone()
    assert settings in (None, ["error"])
    assert session.execute("SELECT count(*) FROM pg_listening_channels()").fetchone() == (0,)


@pytest.mark.parametrize("statement", STUBBORN)
def test_what_cannot_be_removed_costs_a_new_database(own, statement):
    session, new = own.session, own.census()
    session.execute(statement)
    own.empty()
    assert own.session is not session
    assert session.closed
    assert own.census() == new
