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
CREATE FUNCTION embed.belongs(internal) RETURNS internal
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE
AS 'textlike_support';
COMMENT ON FUNCTION embed.belongs(internal) IS 'internal: ties generated functions to the extension';
