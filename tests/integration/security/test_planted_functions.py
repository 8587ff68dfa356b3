"""Provider ``function``: it runs as its owner, in workers and searches, and leaves nothing behind in the session."""

import pytest
from psycopg import errors

from tests.fixtures.roles import people

pytestmark = pytest.mark.shared_database

SETUP = """
CREATE TABLE alice.seen (who name, what text);
GRANT INSERT ON alice.seen TO PUBLIC;
CREATE TABLE alice.trap (what text);
CREATE FUNCTION alice.spring() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO alice.seen VALUES (current_user, 'deferred trigger'); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON alice.trap DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION alice.spring();
CREATE FUNCTION alice.note(what text) RETURNS int LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO alice.seen VALUES (current_user, what); RETURN 1; END$$;
CREATE FUNCTION alice.model(texts text[]) RETURNS public.vector[] LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'model as %', current_user;
    {body}
    RETURN ARRAY(SELECT '[1,2]'::public.vector FROM unnest(texts));
END $$;
CREATE TABLE alice.docs (id int PRIMARY KEY, body text);
INSERT INTO alice.docs VALUES (1, 'one'), (2, 'two');
"""
ASKING = ["SELECT embed('a', 'theirs')", "SELECT embed_query('docs', 'b')", "SELECT FROM embed_search('docs', 'c')"]
WORKING = ["SELECT embed_drain()", "CALL embed_work(until_empty => true, max_runtime => '10 s')"]


@pytest.fixture
def plant(db, connect):
    """Register alice's function as a model, with a pipeline that uses it."""
    people(db)

    def make(body):
        alice = connect("alice")
        alice.execute(SETUP.replace("{body}", body))
        db.execute("SELECT embed_model_add('theirs', 'function', 2, 'alice.model')")
        alice.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'theirs')")
        return alice

    return make


def run(session, statement):
    heard = []
    session.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    session.execute(statement)
    return {words for words in heard if words.startswith(("model as", "could not"))}


@pytest.mark.slow
def test_it_runs_as_its_owner_and_nothing_of_it_outlives_the_call(db, connect, plant):
    """At COMMIT neither its triggers nor its cursors run with the worker's rights; its settings are gone."""
    plant(
        """INSERT INTO alice.trap VALUES ('x');
           EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT alice.note(''cursor'')';
           PERFORM set_config('search_path', 'alice, pg_catalog', false);
           PERFORM set_config('lock_timeout', '1h', false);
           CREATE TEMP TABLE IF NOT EXISTS pg_class_of_mine (x int);"""
    )
    for statement in WORKING + ASKING:
        db.execute("UPDATE alice.docs SET body = body || '!'")  # there is something to do
        worker = connect()
        assert run(worker, statement) == {"model as alice"}, statement
        assert db.execute("SELECT who, what FROM alice.seen WHERE who <> 'alice'").fetchall() == [], statement
        assert worker.execute("SELECT name FROM pg_cursors WHERE name = 'held'").fetchall() == []
        shown = [worker.execute(f"SHOW {name}").fetchone()[0] for name in ("search_path", "lock_timeout")]
        assert shown == ['"$user", public', "0"], statement


GRABS = {
    "set role": "SET ROLE postgres",
    "reset role": "RESET ROLE",
    "reset session authorization": "RESET SESSION AUTHORIZATION",
    "set session authorization": "SET SESSION AUTHORIZATION postgres",
    "set_config role": "SELECT set_config('role', 'postgres', false)",
    "elevate": "SELECT public.embed_elevate()",
    "elevate, stable": "SELECT public.embed_elevate_stable()",
    "drain": "SELECT public.embed_drain()",
    "another's pipeline": "SELECT public.embed_pause('theirs')",
    "queue": "SELECT count(*) FROM embed.job",
    "make a model": "SELECT public.embed_model_add('m', 'hash', 8)",
}


@pytest.mark.parametrize("statement", WORKING)
def test_it_cannot_grab_the_workers_rights(db, connect, plant, statement):
    attempts = "".join(
        f"""BEGIN EXECUTE {"$q$" + grab + "$q$"};
                  RAISE NOTICE 'could not be stopped: {name.replace("'", "''")} as %', current_user;
            EXCEPTION WHEN OTHERS THEN RAISE DEBUG '%', SQLERRM; END;"""
        for name, grab in GRABS.items()
    )
    plant(attempts)
    db.execute("CREATE TABLE theirs (id int PRIMARY KEY, body text)")
    db.execute("SELECT embed_create('theirs', 'theirs', columns => '{body}')")
    heard = run(connect(), statement)
    # RESET ROLE goes back to the role of the session inside a function that changed it: it must not.
    assert heard == {"model as alice"}
    assert db.execute("SELECT count(*) FROM alice.docs_embedding").fetchone() == (2,)


@pytest.mark.parametrize("statement", WORKING)
def test_an_owner_who_may_drain_cannot_drain_inside_a_drain(db, connect, plant, statement):
    db.execute("GRANT embed_worker TO alice")
    try:
        plant(
            """BEGIN PERFORM public.embed_drain(); RAISE NOTICE 'could not be stopped';
               EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL; END;"""
        )
        assert run(connect(), statement) == {"model as alice"}
        assert dict(db.execute("SELECT * FROM embed_verify('docs')").fetchall())["fresh"] == 2
    finally:
        db.execute("REVOKE embed_worker FROM alice")


def test_a_function_that_changed_hands_is_not_called(db, plant):
    plant("")
    db.execute("ALTER FUNCTION alice.model(text[]) OWNER TO bob")
    db.execute("SELECT embed_drain()")
    failed, error = db.execute("SELECT fresh, last_error FROM embed_status").fetchone()
    assert failed == 0
    assert "another owner" in error


def test_only_who_may_call_a_function_may_make_a_model_of_it(db, connect):
    """An admin of models is no superuser: it would run as its owner."""
    people(db)
    db.execute(
        "CREATE FUNCTION public.mine(text[]) RETURNS public.vector[] LANGUAGE sql AS 'SELECT NULL::public.vector[]'"
    )
    db.execute("REVOKE EXECUTE ON FUNCTION public.mine(text[]) FROM PUBLIC")
    admin, add = connect("the_admin"), "SELECT embed_model_add('mine', 'function', 2, 'public.mine')"
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied for function") as refused:
        admin.execute(add)
    assert "GRANT EXECUTE" in refused.value.diag.message_hint
    assert db.execute("SELECT count(*) FROM embed.model WHERE name = 'mine'").fetchone() == (0,)
    db.execute("GRANT EXECUTE ON FUNCTION public.mine(text[]) TO the_admin")
    admin.execute(add)


def test_asking_a_function_model_directly_needs_embed_user(connect, plant):
    plant("")
    with pytest.raises(errors.InsufficientPrivilege):
        connect("bob").execute(ASKING[0])
    assert run(connect("the_payer"), ASKING[0]) == {"model as alice"}
