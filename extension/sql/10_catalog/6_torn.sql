-- A dump may leave tables out, and a restore may fail half way: then a pipeline refers to rows that are not there.
CREATE FUNCTION embed.torn(pipeline int, OUT what text, OUT remedy text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT t.what, coalesce(t.remedy, pg_catalog.format(
        'restore it from the dump, or SELECT embed_drop(%L) and create the pipeline again', p.name))
    FROM embed.pipeline p
    CROSS JOIN LATERAL (
        SELECT 'its active generation is missing from embed.generation' AS what, NULL AS remedy
        WHERE NOT EXISTS (SELECT FROM embed.generation g WHERE g.pipeline = p.id AND g.state = 'active')
        UNION ALL
        SELECT CASE
                   WHEN m.id IS NULL THEN pg_catalog.format('model %s of its generation %s is missing from embed.model', g.model, g.id)
                   WHEN m.endpoint IS NOT NULL AND e.name IS NULL
                       THEN pg_catalog.format('endpoint "%s" of its model "%s" is missing from embed.endpoint', m.endpoint, m.name)
                   WHEN pg_catalog.to_regclass('embed_store.readable_' || g.id) IS NULL
                       OR pg_catalog.to_regclass('embed_store.g' || g.id) IS NULL
                       THEN pg_catalog.format('the table of its generation %s is missing from schema embed_store', g.id)
               END,
               CASE WHEN m.endpoint IS NOT NULL AND e.name IS NULL
                    THEN pg_catalog.format('SELECT embed_endpoint_set(%L, ''https://...'') makes it again', m.endpoint) END
        FROM embed.generation g
        LEFT JOIN embed.model m ON m.id = g.model
        LEFT JOIN embed.endpoint e ON e.name = m.endpoint
        WHERE g.pipeline = p.id) t
    WHERE p.id = torn.pipeline AND t.what IS NOT NULL
    LIMIT 1
$sql$;
COMMENT ON FUNCTION embed.torn(int) IS 'internal: what a pipeline refers to and is not there, as after a partial restore, and what to do';
