-- sample(int4): randomly chosen chunks of a generation
SELECT c.id, c.vector
FROM (SELECT b.low + pg_catalog.floor(pg_catalog.random() * (b.high - b.low + 1))::bigint AS place
      FROM (SELECT min(g.document) AS low, max(g.document) AS high FROM {table} g) b, pg_catalog.generate_series(1, $1)
      OFFSET 0) p
CROSS JOIN LATERAL (SELECT g.id, g.embedding::text AS vector FROM {table} g WHERE g.document >= p.place
                    ORDER BY g.document, g.id LIMIT 1) c
GROUP BY c.id, c.vector

-- nearest_exactly({vector}, int8, int4): distances of the nearest other chunks. Adding zero keeps the index out.
SELECT {distance} AS distance FROM {table} g WHERE g.id <> $2 {not_blank}
ORDER BY ({distance}) + 0 LIMIT $3

-- nearest_by_index({vector}, int8, int4): the same as a search reads the index
SELECT n.distance
FROM (SELECT g.id, {distance} AS distance FROM {table} g WHERE true {not_blank}
      ORDER BY {order} LIMIT ($3 + 1) * {more}) n
WHERE n.id <> $2
ORDER BY n.distance LIMIT $3

-- set_width(text): until the step ends, how the index is scanned
SELECT pg_catalog.set_config('hnsw.ef_search', $1, true), pg_catalog.set_config('hnsw.iterative_scan', 'strict_order', true),
       pg_catalog.set_config('enable_seqscan', 'off', true)

-- record_recall(int4, text, float8, int4, int4, float8): keeps a measurement, and the size per chunk of an index that was not
-- measured yet: as it was built, if neither VACUUM nor ANALYZE came before
INSERT INTO embed.index_recall AS r (generation, index, chunks, recall, ef_search, samples, target, bytes_per_chunk)
SELECT $1, c.oid, embed.estimate_chunks($1), $3, $4, $5, $6,
       c.relpages * pg_catalog.current_setting('block_size')::float8 / nullif(greatest(c.reltuples, 0), 0)
FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass('embed_store.' || $2)
ON CONFLICT (generation) DO UPDATE
SET bytes_per_chunk = CASE WHEN r.index = excluded.index THEN coalesce(r.bytes_per_chunk, excluded.bytes_per_chunk)
                           ELSE excluded.bytes_per_chunk END,
    index = excluded.index, chunks = excluded.chunks, recall = excluded.recall, ef_search = excluded.ef_search,
    samples = excluded.samples, target = excluded.target, measured_at = pg_catalog.clock_timestamp()

-- width(int4): the search width of a generation's index, if it is the one that was measured
SELECT r.ef_search FROM embed.index_recall r
WHERE r.generation = $1 AND r.index = pg_catalog.to_regclass('embed_store.g' || $1 || '_embedding_idx')

-- forget_dropped(): deletes measurements of generations that are gone
DELETE FROM embed.index_recall r WHERE NOT EXISTS (SELECT FROM embed.generation g WHERE g.id = r.generation)
