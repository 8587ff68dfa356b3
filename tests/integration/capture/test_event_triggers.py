"""Event triggers of the user's own, which fire on our DDL as well.

The kind: code of others that runs inside our statements, made for the settings of their sessions. Our DDL runs with the
extension's rights and the search_path pg_catalog, pg_temp. The caller's would lead the trigger to the caller's tables,
with those rights. So a trigger that takes an unqualified name fails here, and the error says which and what to type.
"""

import psycopg
import pytest
from psycopg import errors

from tests.fixtures.pipelines.freshness import assert_fresh, status

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

UNQUALIFIED = "INSERT INTO audit (tag) SELECT tg_tag FROM pg_event_trigger_ddl_commands()"
CREATE = "SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')"
CURE = "ALTER FUNCTION public.audit_ddl() SET search_path = public, pg_temp;"
NAMED = 'event trigger "Audit" failed on '


def audited(db, body=UNQUALIFIED):
    """An event trigger that notes every command; the user's own DDL passes it."""
    db.execute("CREATE TABLE audit (tag text)")
    db.execute(f"CREATE FUNCTION audit_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$")
    db.execute("""CREATE EVENT TRIGGER "Audit" ON ddl_command_end EXECUTE FUNCTION audit_ddl()""")
    db.execute("CREATE TABLE passed (id int)")


def refused(db, call):
    with pytest.raises(errors.UndefinedTable, match=NAMED) as found:
        db.execute(call)
    assert CURE in found.value.diag.message_hint


def test_the_trigger_that_fails_is_named_and_what_to_type_mends_it(db, docs, model):
    audited(db)
    refused(db, CREATE)
    db.execute(CURE)
    db.execute(CREATE)
    assert_fresh(db, "docs", 10)
    db.execute("ALTER FUNCTION public.audit_ddl() RESET search_path")
    refused(db, "SELECT embed_build('docs', columns => '{title}')")
    db.execute(CURE)
    db.execute("SELECT embed_build('docs', columns => '{title}')")
    assert_fresh(db, "docs", 10)
    db.execute("ALTER FUNCTION public.audit_ddl() RESET search_path")
    refused(db, "SELECT embed_promote('docs')")
    db.execute(CURE)
    db.execute("SELECT embed_promote('docs')")
    assert_fresh(db, "docs", 10)


def test_the_users_own_ddl_passes_and_is_followed_when_the_trigger_is_mended(db, docs, model):
    db.execute(CREATE)
    assert_fresh(db, "docs", 10)
    audited(db)
    db.execute("ALTER TABLE docs RENAME body TO text")
    db.execute("UPDATE docs SET text = 'edited' WHERE id = 1")
    said = []
    db.add_notice_handler(lambda notice: said.append((notice.message_primary, notice.message_hint)))
    db.execute("SELECT embed_drain()")
    assert any(NAMED in words and hint and CURE in hint for words, hint in said)
    db.execute("CALL embed_work(max_runtime => '2 s')")
    last_error = status(db, "docs").last_error or ""
    assert NAMED in last_error
    assert CURE in last_error
    db.execute(CURE)
    db.execute("CALL embed_work(until_empty => true)")
    assert_fresh(db, "docs", 10)
    assert db.execute("SELECT chunk FROM docs_embedding WHERE id = 1").fetchone() == ("edited",)


def test_a_trigger_that_refuses_ddl_on_purpose_has_its_own_words(db, docs, model):
    db.execute("CREATE FUNCTION never() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$")
    db.execute("CREATE EVENT TRIGGER never ON ddl_command_start EXECUTE FUNCTION never()")
    with pytest.raises(errors.RaiseException, match="not today"):
        db.execute(CREATE)


def test_create_extension_names_it_too(cluster):
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE audited")
    try:
        with psycopg.connect(cluster.dsn("audited"), autocommit=True) as db:
            db.execute("CREATE EXTENSION vector; CREATE EXTENSION plpython3u")
            audited(db)
            refused(db, "CREATE EXTENSION evergreen")
            db.execute(CURE)
            db.execute("CREATE EXTENSION evergreen")
            assert db.execute("SELECT count(*) FROM embed_status").fetchone() == (0,)
    finally:
        with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
            admin.execute("DROP DATABASE audited WITH (FORCE)")
