-- Every name below is qualified or in one of these schemas, so the script never resolves to a user's operator or function.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- Cluster-wide roles. They outlive the extension because other databases may use them.
DO $do$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT * FROM (VALUES
        ('embed_admin', 'evergreen: administers endpoints, models and every pipeline'),
        ('embed_worker', 'evergreen: may run and schedule workers, drain and claim (claims show the texts of every pipeline)'),
        ('embed_user', 'evergreen: may use paid models, in embed() and in pipelines')) v(name, purpose)
    LOOP
        IF pg_catalog.to_regrole(r.name) IS NULL THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', r.name);
            EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', r.name, r.purpose);
        END IF;
    END LOOP;
    GRANT embed_worker, embed_user TO embed_admin;
END
$do$;

-- The catalog and the queue. Generation tables live in embed_store, which the first embed_create creates. It is never a member
-- of the extension: DROP EXTENSION must not drop vectors that cost money, and pg_dump must include them.
-- Another extension's event trigger may fail under this script's search_path; the error names it.
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
