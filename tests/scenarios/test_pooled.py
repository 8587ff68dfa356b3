"""Behind a transaction-mode pooler: each transaction runs in another backend, and no session state lasts."""

import threading

import psycopg
import psycopg.conninfo
import pytest

from tests.fixtures.pipelines.documents import assert_as_source
from tests.fixtures.pipelines.freshness import assert_fresh, status
from tests.fixtures.roles import hash_model, people
from tests.fixtures.server.pooler import Emulated, Pooled, pgbouncer
from tests.fixtures.stress import locks
from tests.fixtures.waiting import wait_until

WORK = "CALL embed_work(until_empty => true)"


@pytest.fixture(params=["emulated", "pgbouncer"])
def client(request, cluster, dsn):
    """Opens clients of the pool."""
    opened = []

    def emulated():
        opened.append(Emulated(dsn))
        return opened[-1]

    if request.param == "emulated":
        yield emulated
        for one in opened:
            one.close()
        return
    with pgbouncer(cluster) as port:

        def pooled():
            opened.append(Pooled(psycopg.conninfo.make_conninfo(dsn, port=port)))
            return opened[-1]

        yield pooled
        for one in opened:
            one.close()


def test_every_call_in_a_transaction_of_its_own(db, client, docs, model, provider):
    one = client()
    one.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    assert one.execute("SELECT embed_drain()") == [(10,)]
    one.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    one.transaction(
        ["SET LOCAL statement_timeout = '20s'", "SELECT embed_touch('docs', '[2]')", "SELECT embed_drain()"]
    )
    one.execute("SELECT embed_alter('docs', '{\"max_attempts\": 7}')")
    one.execute("SELECT embed_pause('docs')")
    one.execute("UPDATE docs SET body = 'paused' WHERE id = 2")
    assert one.execute("SELECT embed_drain()") == [(0,)]
    one.execute("SELECT embed_resume('docs')")
    one.execute(WORK)
    # The cache of questions, plans and modules belongs to the backend: each backend gives the same results.
    answers = {str(one.execute("SELECT key, chunk FROM embed_search('docs', 'paused', k => 2)")) for _ in range(9)}
    assert len(answers) == 1
    assert dict(one.execute("SELECT * FROM embed_verify('docs', true)"))["fresh"] == 10
    assert "fresh" in one.execute("SELECT embed_explain('docs', '[1]')")[0][0]
    assert one.execute("SELECT fresh, pending FROM embed_status") == [(10, 0)]
    one.execute("ALTER TABLE docs RENAME body TO content")
    one.execute("UPDATE docs SET content = 'renamed' WHERE id = 3")
    one.execute(WORK)
    assert_fresh(db, "docs", 10)
    assert locks(db) == []
    one.execute("SELECT embed_drop('docs')")


def test_workers_and_writers_side_by_side(db, client, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    errors = []

    def run(one, statements):
        try:
            for statement in statements:
                one.execute(statement)
        except psycopg.Error as error:
            errors.append(error)

    writes = [[f"UPDATE docs SET body = 'of {w}, {n}' WHERE id = {1 + n % 10}" for n in range(30)] for w in range(2)]
    scripts = [*writes, [WORK] * 4, ["SELECT embed_drain()", WORK] * 3]
    # All are clients of one pool; in the emulation each has backends of its own.
    threads = [threading.Thread(target=run, args=(client(), script)) for script in scripts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    client().execute(WORK)
    assert_as_source(db)
    assert locks(db) == []


def test_a_backend_is_as_good_as_new_after_a_cancelled_worker(db, client, docs, model, provider):
    """What a step left for the door between the caller's rights and ours must not wait there for the next client."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    one = client()
    for call in ("SELECT embed_drain()", WORK):
        provider.hold()
        at = len(provider.requests)
        errors = []

        def run(call=call, errors=errors):
            try:
                one.execute(call)
            except psycopg.Error as error:
                errors.append(error.sqlstate)

        thread = threading.Thread(target=run)
        thread.start()
        provider.wait_for_requests(at + 1)
        found = db.execute("SELECT pid FROM pg_stat_activity WHERE query = %s", (call,)).fetchall()
        for (pid,) in found:
            db.execute("SELECT pg_cancel_backend(%s)", (pid,))
        thread.join(20)
        provider.release()
        assert errors == ["57014"]
        for _ in range(6):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="internal"):
                one.execute("SELECT embed_elevate()")
        wait_until(lambda: locks(db) == [], what="a free token")
    one.execute(WORK)
    assert_as_source(db)


def test_roles_that_share_a_backend_share_no_rights(db, client, docs):
    people(db)
    hash_model(db)
    db.execute("ALTER TABLE docs OWNER TO alice; GRANT CREATE ON SCHEMA public TO alice")
    one = client()
    alice, bob = "SET LOCAL ROLE alice", "SET LOCAL ROLE bob"
    one.transaction([alice, "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')"])
    one.execute("SELECT embed_drain()")
    ask = "SELECT count(*) FROM embed_search('docs', 'body 1')"
    for _ in range(6):
        assert one.transaction([alice, ask])[1] == [(10,)]
        for refused in (ask, "SELECT embed_pause('docs')", "SELECT embed_drain()", "SELECT embed_elevate()"):
            with pytest.raises(psycopg.Error) as caught:
                one.transaction([bob, refused])
            assert caught.value.sqlstate in {"42704", "42501"}, refused
    assert status(db, "docs").state == "active"
