CREATE VIEW @extschema@.embed_generations WITH (security_barrier) AS
SELECT p.name AS pipeline,
       g.id AS generation,
       g.state,
       m.name AS model,
       m.dimensions,
       g.columns,
       g.template,
       g.chunker,
       g.options,
       d.documents,
       d.chunks,
       j.pending,
       f.failed,
       CASE WHEN g.state <> 'active' THEN c.coverage END AS coverage,
       coalesce(s.running, false) AS backfilling,
       EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indisvalid AND i.indexrelid = pg_catalog.to_regclass('embed_store.g' || g.id || '_embedding_idx')) AS indexed,
       g.since,
       g.created_at
FROM embed.pipeline p
JOIN embed.generation g ON g.pipeline = p.id
LEFT JOIN embed.model m ON m.id = g.model
LEFT JOIN embed.scan s ON s.generation = g.id AND s.scope = 'source'
CROSS JOIN LATERAL (SELECT count(*) AS documents, coalesce(sum(d.chunks), 0)::bigint AS chunks
                    FROM embed.document d WHERE d.generation = g.id) d
CROSS JOIN LATERAL (SELECT count(*) AS pending FROM embed.job j WHERE j.generation = g.id) j
CROSS JOIN LATERAL (SELECT count(*) AS failed FROM embed.failure f WHERE f.generation = g.id) f
CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) = 0 THEN 1.0 ELSE count(b.key)::float8 / count(*) END AS coverage
    FROM embed.generation a
    JOIN embed.document x ON x.generation = a.id
    LEFT JOIN embed.document b ON b.generation = g.id AND b.key = x.key
    WHERE a.pipeline = p.id AND a.state = 'active' AND g.state <> 'active'
      AND NOT EXISTS (SELECT FROM embed.failure f WHERE f.generation IN (a.id, g.id) AND f.key = x.key)) c
WHERE embed.may_see(p.source);
COMMENT ON VIEW @extschema@.embed_generations IS
    'a row for each (model, text, chunker) of a pipeline: the active one, one that is being built, and previous ones';
COMMENT ON COLUMN @extschema@.embed_generations.coverage IS
    'of the rows embedded in the active generation, the share that has a document in this one; dead letters of both left out';
COMMENT ON COLUMN @extschema@.embed_generations.pending IS 'rows queued or at a model; while it is backfilling there are more';
COMMENT ON COLUMN @extschema@.embed_generations.indexed IS 'whether its HNSW index is there; it is made from index_from chunks on';
COMMENT ON COLUMN @extschema@.embed_generations.since IS 'when it came into its state';
GRANT SELECT ON @extschema@.embed_generations TO PUBLIC;
