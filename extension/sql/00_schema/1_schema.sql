-- Every name below is qualified or one of these; the script must not find a user's operator or function.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- Cluster-wide roles. They outlive the extension: other databases may rely on them.
DO $do$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT * FROM (VALUES
        ('embed_admin', 'evergreen: endpoints, models, and every pipeline'),
        ('embed_worker', 'evergreen: may drain, work, schedule and claim (which shows the texts of every pipeline)'),
        ('embed_user', 'evergreen: may call embed() on models that cost money, and give them to pipelines')) v(name, purpose)
    LOOP
        IF pg_catalog.to_regrole(r.name) IS NULL THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', r.name);
            EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', r.name, r.purpose);
        END IF;
    END LOOP;
    GRANT embed_worker, embed_user TO embed_admin;
END
$do$;

-- The catalog and the queue. Generation tables live in embed_store, made by the first embed_create and never a member:
-- DROP EXTENSION must not drop vectors that were paid for, and pg_dump must keep them.
-- An event trigger that another extension's script would pass may fail with this script's search_path: it is named.
DO $do$
DECLARE
    said text;
    state text;
    context text;
    name text;
    cure text;
BEGIN
    CREATE SCHEMA embed;
    CREATE TABLE embed.probe ();
    DROP TABLE embed.probe;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, state = RETURNED_SQLSTATE, context = PG_EXCEPTION_CONTEXT;
    SELECT t.evtname, format('ALTER FUNCTION %s SET search_path = %I, pg_temp;', p.oid::regprocedure, n.nspname) INTO name, cure
    FROM pg_event_trigger t JOIN pg_proc p ON p.oid = t.evtfoid JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE context ~ format('function ([^ ]+[.])?%s[(][)] line', regexp_replace(quote_ident(p.proname), '([^[:alnum:]_])', E'\\\\\\1', 'g'))
    LIMIT 1;
    IF name IS NULL THEN
        RAISE;
    END IF;
    RAISE EXCEPTION 'event trigger % failed on CREATE EXTENSION evergreen: %', quote_ident(name), said
    USING ERRCODE = state,
          HINT = concat(cure, ' evergreen''s script runs with the search_path pg_catalog, pg_temp');
END
$do$;
COMMENT ON SCHEMA embed IS 'evergreen: catalog, queue and bookkeeping; use the embed_* functions and views instead';
REVOKE ALL ON SCHEMA embed FROM PUBLIC;
