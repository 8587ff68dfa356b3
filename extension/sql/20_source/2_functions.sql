-- pg_partition_tree() locks each partition, so it blocks while one is being altered or dropped.
CREATE FUNCTION embed.partition_tree(source oid) RETURNS SETOF oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    WITH RECURSIVE tree AS (
        SELECT source AS relid
        UNION
        SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.relid AND NOT i.inhdetachpending
        JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition
    )
    SELECT t.relid FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.relid
$sql$;
COMMENT ON FUNCTION embed.partition_tree(oid) IS 'internal: a table and all of its partitions, without locking any';

-- These functions belong to the source's owner and run as that role. The owner cannot reference them, unless an administrator
-- or default privileges granted USAGE on their schema; with SECURITY INVOKER the owner's code would run as the extension's
-- owner.
CREATE FUNCTION embed.runs_as_owner(pipeline int) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    RETURN (SELECT coalesce(bool_and(f.prosecdef AND f.proowner = c.relowner), false)
    FROM embed.pipeline p
    JOIN pg_class c ON c.oid = p.source
    CROSS JOIN LATERAL (
        SELECT format(n.name, p.id)
        FROM unnest(ARRAY['scan_%s(jsonb, int)', 'key_%s(jsonb)', 'count_%s()']) n (name)
        UNION ALL
        SELECT format('reader_%s(jsonb)', g.id) FROM embed.generation g WHERE g.pipeline = p.id
        UNION ALL
        SELECT format(n.name, d.id)
        FROM embed.dependency d, unnest(ARRAY['expand_%s(jsonb, int)', 'page_%s(jsonb, jsonb, jsonb, int)']) n (name)
        WHERE d.pipeline = p.id AND d.names IS NOT NULL AND NOT d.is_key
    ) n (name)
    LEFT JOIN pg_proc f ON f.oid = to_regprocedure('embed_store.' || n.name)
    WHERE p.id = runs_as_owner.pipeline);
END
$plpgsql$;
COMMENT ON FUNCTION embed.runs_as_owner(int) IS
    'internal: whether the functions that read a pipeline''s source still run as its owner';

-- Every generated function names this as its support function, so it depends on the extension and is dropped with it. ALTER
-- FUNCTION ... DEPENDS ON EXTENSION does the same, but each CREATE OR REPLACE loses it, and repeating it locks the extension
-- until the transaction ends: an ALTER TABLE left open would block every other pipeline from following its own source.
-- The planner may ask a support function for advice; this built-in one has none for functions like ours.
CREATE FUNCTION embed.extension_member(internal) RETURNS internal
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE
AS 'textlike_support';
COMMENT ON FUNCTION embed.extension_member(internal) IS 'internal: ties generated functions to the extension';

-- reltuples if the table was analyzed or is large; counting a small table costs next to nothing.
-- In PL/pgSQL, whose plans are kept: embed_status calls it for each pipeline.
CREATE FUNCTION embed.rough_rows(source regclass, OUT rows bigint, OUT is_small boolean)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    kind "char";
    bytes bigint;
    analyzed real;
BEGIN
    SELECT c.relkind, c.reltuples, CASE WHEN c.relkind IN ('r', 'm') THEN pg_relation_size(c.oid) END
    INTO kind, analyzed, bytes FROM pg_class c WHERE c.oid = source;
    IF kind = 'v' THEN  -- its count function decides
        rows = 0;
        is_small = true;
        RETURN;
    END IF;
    IF kind IN ('r', 'm') THEN
        rows = CASE WHEN analyzed > 0 THEN analyzed ELSE bytes / 400 END;
        is_small = bytes < 4 * 1024 * 1024 OR (analyzed < 0 AND bytes < 64 * 1024 * 1024);
        RETURN;
    END IF;
    SELECT coalesce(sum(CASE WHEN l.reltuples > 0 THEN l.reltuples ELSE l.bytes / 400 END), 0)::bigint,
           coalesce(sum(l.bytes) < 4 * 1024 * 1024 OR (bool_or(l.reltuples < 0) AND sum(l.bytes) < 64 * 1024 * 1024), true)
    INTO rows, is_small
    FROM (SELECT c.reltuples, pg_relation_size(c.oid) AS bytes
          FROM embed.partition_tree(source) t (relid) JOIN pg_class c ON c.oid = t.relid AND c.relkind = 'r') l;
END
$plpgsql$;
COMMENT ON FUNCTION embed.rough_rows(regclass) IS
    'internal: approximate number of rows of a table, from the catalog, and whether it is small enough to count';

-- While a table is being altered even reading its size blocks, and embed_status must not wait. The planner runs the owner's
-- immutable functions, such as an index condition, so the count runs as the owner in a function of the pipeline. It is rolled
-- back: otherwise whatever else that code did would take effect as us at COMMIT.
CREATE FUNCTION embed.estimate_rows(source regclass) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '50ms'
AS $plpgsql$
DECLARE
    rough bigint;
    counted bigint;
    is_small boolean;
    pipeline int;
    session text[];
BEGIN
    BEGIN
        SELECT r.rows, r.is_small INTO rough, is_small FROM embed.rough_rows(source) r;
        SELECT min(p.id) INTO pipeline FROM embed.pipeline p WHERE p.source = estimate_rows.source;
        IF is_small AND embed.runs_as_owner(pipeline) THEN
            session = embed.session_state();
            EXECUTE pg_catalog.format('SELECT embed_store.count_%s()', pipeline) INTO counted;
        END IF;
        RAISE EXCEPTION 'undone';
    EXCEPTION WHEN OTHERS THEN
        NULL;  -- the variables keep their values
    END;
    IF session IS NOT NULL THEN
        BEGIN
            PERFORM embed.restore_session(session);
        EXCEPTION WHEN insufficient_privilege THEN
            PERFORM embed.report_demoted_owner();
            RAISE;
        END;
    END IF;
    RETURN coalesce(counted, rough, (
        SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
        FROM embed.partition_tree(source) t (relid) JOIN pg_catalog.pg_class c ON c.oid = t.relid WHERE c.relkind = 'r'));
END
$plpgsql$;
COMMENT ON FUNCTION embed.estimate_rows(regclass) IS
    'internal: rows of a pipeline''s table, counted below 4 MB (64 MB if never analyzed), otherwise the planner''s estimate';
