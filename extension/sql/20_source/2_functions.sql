-- pg_partition_tree() locks each partition, and so waits while one of them is altered or dropped.
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
COMMENT ON FUNCTION embed.partition_tree(oid) IS 'internal: a table and all of its partitions, without a lock on any';

-- They belong to the source's owner and run as that role. It cannot name them, unless an administrator or default
-- privileges gave it USAGE on their schema; with SECURITY INVOKER its code would run as the extension's owner.
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
    ) n (name)
    LEFT JOIN pg_proc f ON f.oid = to_regprocedure('embed_store.' || n.name)
    WHERE p.id = runs_as_owner.pipeline);
END
$plpgsql$;
COMMENT ON FUNCTION embed.runs_as_owner(int) IS 'internal: do the functions that read a pipeline''s source still run as its owner';

-- Named as support function by everything that is generated, which so depends on the extension and goes with it. ALTER
-- FUNCTION ... DEPENDS ON EXTENSION says the same and is lost by each CREATE OR REPLACE; to say it again locks the extension
-- to the end of the transaction, so that an ALTER TABLE left open kept every other pipeline from following its own source.
-- The planner may ask it for advice; the built-in function has none to give on functions like ours.
CREATE FUNCTION embed.extension_member(internal) RETURNS internal
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE
AS 'textlike_support';
COMMENT ON FUNCTION embed.extension_member(internal) IS 'internal: ties generated functions to the extension';

-- reltuples where the table was analysed or is large; counting a small one costs next to nothing.
CREATE FUNCTION embed.rough_rows(source regclass, OUT rows bigint, OUT is_small boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT coalesce(sum(CASE WHEN l.reltuples > 0 THEN l.reltuples ELSE l.bytes / 400 END), 0)::bigint,
           coalesce(sum(l.bytes) < 4 * 1024 * 1024 OR (bool_or(l.reltuples < 0) AND sum(l.bytes) < 64 * 1024 * 1024), true)
    FROM (SELECT c.reltuples, pg_catalog.pg_relation_size(c.oid) AS bytes
          FROM embed.partition_tree(source) t (relid)
          JOIN pg_catalog.pg_class c ON c.oid = t.relid AND c.relkind = 'r') l
$sql$;
COMMENT ON FUNCTION embed.rough_rows(regclass) IS 'internal: about how many rows a table has, by the catalog; is it worth counting them';

-- While somebody alters the table even its size cannot be looked at, and embed_status must not wait for that. The planner runs the owner's immutable functions, as of an index's condition: so the counting is the owner's, by a
-- function of the pipeline, and undone, or what else that code did would be done as us at COMMIT.
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
        NULL;  -- the variables keep what they got
    END;
    IF session IS NOT NULL THEN
        PERFORM embed.restore_session(session);
    END IF;
    RETURN coalesce(counted, rough, (
        SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
        FROM embed.partition_tree(source) t (relid) JOIN pg_catalog.pg_class c ON c.oid = t.relid WHERE c.relkind = 'r'));
END
$plpgsql$;
COMMENT ON FUNCTION embed.estimate_rows(regclass) IS
    'internal: rows of a pipeline''s table, counted below 4 MB, or below 64 MB if never analysed, else the planner''s estimate';
