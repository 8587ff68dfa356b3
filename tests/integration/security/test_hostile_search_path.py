"""A session whose search_path has look-alikes of Postgres's own functions, operators and types before pg_catalog.

The kind: what an administrator's or a worker's session calls by an unqualified name may be another role's code. Every
function of pg_catalog that our SQL names, the operators of its types and those types themselves have a look-alike here
that notes its call; none is called, by any call of the API.
"""

import re
from pathlib import Path

import pytest

import evergreen_host
from tests.fixtures.pipelines.documents import drain_all

pytestmark = pytest.mark.slow

LOOK_ALIKES = """
CREATE SCHEMA evil;
CREATE TABLE evil.seen (what text);
CREATE FUNCTION evil.note(what text) RETURNS boolean LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO evil.seen VALUES (what); RETURN true; END$$;
DO $do$
DECLARE one record;
BEGIN
    FOR one IN
        SELECT p.oid, p.proname AS name, pg_get_function_identity_arguments(p.oid) AS arguments,
               pg_get_function_result(p.oid) AS result,
               p.proretset OR coalesce('o' = ANY (p.proargmodes), false) AS is_plain
        FROM pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.proname = ANY ({functions})
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS $$BEGIN PERFORM evil.note(%L);'
                ' RETURN%s; END$$', one.name, one.arguments, one.result, one.oid::regprocedure,
                CASE WHEN NOT one.is_plain AND one.result <> 'void' THEN ' NULL' END);
        EXCEPTION WHEN feature_not_supported OR invalid_function_definition OR syntax_error OR undefined_object THEN
            NULL;  -- arguments of type "any", or whose defaults have no name
        END;
    END LOOP;
    FOR one IN
        SELECT o.oid, o.oprname AS name, format_type(o.oprleft, NULL) AS l, format_type(o.oprright, NULL) AS r,
               format_type(o.oprresult, NULL) AS result
        FROM pg_operator o JOIN pg_type l ON l.oid = o.oprleft JOIN pg_type r ON r.oid = o.oprright
        WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND l.typtype = 'b' AND r.typtype = 'b'
    LOOP
        EXECUTE format('CREATE FUNCTION evil.%I(%s, %s) RETURNS %s LANGUAGE plpgsql AS $$BEGIN PERFORM evil.note(%L);'
            ' RETURN NULL; END$$', 'operator_' || one.oid, one.l, one.r, one.result, one.oid::regoperator);
        EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.%I)',
            one.name, one.l, one.r, 'operator_' || one.oid);
    END LOOP;
    FOR one IN
        SELECT unnest('{{text, int2, int4, int8, bool, bytea, jsonb, json, oid, float8, timestamptz, interval, name,'
            ' regclass}}'::text[]) AS name
    LOOP
        EXECUTE format('CREATE DOMAIN evil.%I AS pg_catalog.%1$I CHECK (evil.note(%L))', one.name, 'type ' || one.name);
    END LOOP;
END $do$;
"""
CALLS = [
    "CALL public.embed_work(max_runtime => '2 s', until_empty => true)",
    "CALL public.embed_work(max_runtime => '2 s', until_idle => true, slot => 1)",
    "SELECT public.embed_drain()",
    "SELECT public.embed_verify('docs', repair => true)",
    "SELECT public.embed_search('docs', 'title')",
    "SELECT public.embed_search('docs', 'title', mode => 'hybrid')",
    "SELECT public.embed_search_rows(NULL::public.docs, 'title')",
    "SELECT public.embed_query('docs', 'title')",
    "SELECT public.embed_explain('docs', '[1]')",
    "SELECT public.embed_touch('docs', '[1]')",
    "SELECT public.embed_wait('docs', timeout => '1 s')",
    "SELECT public.embed_estimate('docs')",
    "SELECT public.embed_get_def('docs')",
    "SELECT public.embed_backfill('docs')",
    "SELECT public.embed_claim('docs', 5)",
    "SELECT public.embed_build('docs', model => 'other')",
    "SELECT public.embed_drain()",
    "SELECT public.embed_compare('docs')",
    "SELECT public.embed_bridge('docs', min_recall => 0)",
    "SELECT public.embed_search('docs', 'title through a bridge', mode => 'hybrid')",
    "SELECT public.embed_query('docs', 'title through a bridge')",
    "SELECT public.embed_bridge_drop('docs')",
    "SELECT public.embed_promote('docs')",
    "SELECT public.embed_rollback('docs')",
    "SELECT public.embed_retire('docs')",
    "SELECT public.embed_pause('docs')",
    "SELECT public.embed_resume('docs')",
    "SELECT public.embed_retry('docs')",
    "SELECT public.embed_alter('docs', '{\"live_share\": 0.5}')",
    "SELECT public.embed_forget('docs', '[2]')",
    "SELECT public.embed_setting('lease', '5 min')",
    "SELECT public.embed_create('more', 'public.docs', columns => '{title}', model => 'loop')",
    "SELECT public.embed_drop('more')",
    *(
        f"SELECT * FROM public.embed_{view}"
        for view in ("status", "pipelines", "generations", "models", "endpoints", "usage", "failures")
    ),
    "SELECT * FROM public.docs_embedding",
    "UPDATE public.docs SET body = 'changed'",
    "DELETE FROM public.docs",
    "TRUNCATE public.docs",
    "ALTER TABLE public.docs RENAME COLUMN body TO text_of_it",
    "SELECT public.embed_drop('docs')",
]


def named_functions() -> list[str]:
    """The functions of pg_catalog that our queries and functions name."""
    server = Path(evergreen_host.__file__).parents[1] / "evergreen"
    texts = [path.read_text() for folder in (server, server.parents[1] / "extension") for path in folder.rglob("*.sql")]
    return sorted({name for text in texts for name in re.findall(r"pg_catalog\.(\w+)\(", text)})


def test_no_look_alike_is_called(db, connect, docs, model):
    db.execute("SELECT embed_model_add('other', 'hash', 8)")
    db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(11, 150) i")  # for a bridge
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    names = named_functions()
    assert "pg_advisory_unlock" in names
    db.execute(LOOK_ALIKES.format(functions=f"ARRAY[{', '.join(repr(name) for name in names)}]"))
    session = connect()
    session.execute("SET client_min_messages = error; SET search_path = evil, pg_catalog, public")
    for call in CALLS:
        db.execute("UPDATE docs SET title = title || '!'")  # there is something to do
        session.execute(call, prepare=False)
        called = db.execute("SELECT DISTINCT what FROM evil.seen").fetchall()
        assert called == [], call
