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
       -- not to_regclass(), which fails for roles without USAGE on the schema
       EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE i.indisvalid AND n.nspname = 'embed_store' AND c.relname = 'g' || g.id || '_embedding_idx') AS indexed,
       g.since,
       g.created_at,
       CASE WHEN embed.may_own(p.source) THEN embed.maintenance_problem(p.id, g.id, a.is_admin) END AS maintenance_error,
       r.recall,
       r.ef_search,
       b.recall AS bridge_recall,
       g.model_revision
FROM embed.pipeline p
JOIN embed.generation g ON g.pipeline = p.id
LEFT JOIN embed.model m ON m.id = g.model
LEFT JOIN embed.backfill_cursor s ON s.generation = g.id AND s.scope = 'source'
LEFT JOIN embed.index_recall r ON r.generation = g.id
LEFT JOIN embed.bridge b ON b.building = g.id
CROSS JOIN LATERAL (
    SELECT embed.documents(g.id) AS documents,
           CASE WHEN embed.documents(g.id) <= 5000
                THEN (SELECT coalesce(sum(d.chunks), 0)::bigint FROM embed.document d WHERE d.generation = g.id)
                ELSE embed.estimate_chunks(g.id) END AS chunks) d
CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) < 5000 THEN count(*) ELSE greatest(embed.planned_rows('job', g.id), count(*)) END AS pending
    FROM (SELECT FROM embed.job j WHERE j.generation = g.id LIMIT 5000) j) j
CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) < 5000 THEN count(*) ELSE greatest(embed.planned_rows('failure', g.id), count(*)) END AS failed
    FROM (SELECT FROM embed.failure f WHERE f.generation = g.id LIMIT 5000) f) f
CROSS JOIN LATERAL (
    SELECT CASE WHEN a.documents > 5000 THEN least(d.documents / a.documents::float8, 1)
                ELSE (SELECT CASE WHEN count(*) = 0 THEN 1.0 ELSE count(b.key)::float8 / count(*) END
                      FROM embed.document x
                      LEFT JOIN embed.document b ON b.generation = g.id AND b.key = x.key
                      WHERE x.generation = a.id
                        AND NOT EXISTS (SELECT FROM embed.failure f WHERE f.generation IN (a.id, g.id) AND f.key = x.key))
                END AS coverage
    FROM (SELECT max(a.id) AS id, embed.documents(max(a.id)) AS documents FROM embed.generation a
          WHERE a.pipeline = p.id AND a.state = 'active' AND g.state <> 'active') a) c
CROSS JOIN LATERAL (SELECT pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE') AS is_admin) a
WHERE embed.may_see(p.source);
COMMENT ON VIEW @extschema@.embed_generations IS
    'one row for each (model, text, chunker) of a pipeline: the active generation, the one being built, and previous ones';
COMMENT ON COLUMN @extschema@.embed_generations.coverage IS
    'share of the rows embedded in the active generation that have a document in this one, excluding dead letters of either; '
    'an estimate above 5,000 rows (embed_promote counts)';
COMMENT ON COLUMN @extschema@.embed_generations.pending IS 'rows queued or in flight; more follow while a backfill runs';
COMMENT ON COLUMN @extschema@.embed_generations.indexed IS
    'whether its HNSW index exists; it is built once there are index_from chunks';
COMMENT ON COLUMN @extschema@.embed_generations.maintenance_error IS
    'last maintenance failure, such as building the index, and when it is retried; shown to those who administer the pipeline';
COMMENT ON COLUMN @extschema@.embed_generations.recall IS
    'recall@10 of the index: the share of the ten nearest chunks that a search finds, measured on a sample of the generation''s own '
    'chunks, and on points between them, against an exact scan, after the build and once a day; NULL if not measured';
COMMENT ON COLUMN @extschema@.embed_generations.ef_search IS
    'search width (hnsw.ef_search) of embed_search and embed_search_rows: the least that reaches the option recall_target';
COMMENT ON COLUMN @extschema@.embed_generations.bridge_recall IS
    'if questions are embedded by this generation''s model while it is being built (embed_bridge): known-item recall@10 of the '
    'bridge; NULL without one';
COMMENT ON COLUMN @extschema@.embed_generations.model_revision IS
    'revision of the model that made its vectors: see embed_models.revision';
COMMENT ON COLUMN @extschema@.embed_generations.since IS 'when the generation entered its state';
GRANT SELECT ON @extschema@.embed_generations TO PUBLIC;
