CREATE VIEW @extschema@.embed_pipelines WITH (security_barrier) AS
SELECT p.name AS pipeline,
       p.source::regclass AS source,
       p.key_names AS key_columns,
       g.columns,
       g.template,
       p.only_if,
       m.name AS model,
       g.chunker,
       p.capture,
       CASE WHEN p.broken_reason IS NULL AND v.what IS NULL THEN p.state ELSE 'broken' END AS state,
       coalesce(v.what, p.broken_reason) AS broken_reason,
       p.view::regclass AS view,
       p.options,
       g.id AS generation,
       pg_catalog.pg_get_userbyid(c.relowner) AS owner,
       p.created_at,
       p.id,
       embed.depends(p.id) AS depends
FROM embed.pipeline p
LEFT JOIN embed.generation g ON g.pipeline = p.id AND g.state = 'active'
LEFT JOIN embed.model m ON m.id = g.model
LEFT JOIN pg_catalog.pg_class c ON c.oid = p.source
LEFT JOIN LATERAL embed.missing_part(p.id) v ON true
WHERE embed.may_see(p.source);
COMMENT ON VIEW @extschema@.embed_pipelines IS 'pipelines on tables that you may read or administer';
GRANT SELECT ON @extschema@.embed_pipelines TO PUBLIC;
