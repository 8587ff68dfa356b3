-- version(int4, int4): what changes whenever the bridge between these generations does; $1: the active one
SELECT pg_catalog.concat(b.xmin, b.ctid) AS version FROM embed.bridge b WHERE b.building = $2 AND b.active = $1

-- read(int4, int4): its matrix
SELECT pg_catalog.concat(b.xmin, b.ctid) AS version, b.matrix FROM embed.bridge b WHERE b.building = $2 AND b.active = $1

-- record(int4, int4, bytea, int8, float8, float8): makes or replaces the bridge of a generation that is being built
INSERT INTO embed.bridge (active, building, matrix, pairs, recall, overlap)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (building) DO UPDATE
SET active = excluded.active, matrix = excluded.matrix, pairs = excluded.pairs, recall = excluded.recall,
    overlap = excluded.overlap, learned_at = pg_catalog.clock_timestamp()

-- delete(int4[]): bridges from or to these generations
DELETE FROM embed.bridge b WHERE b.building = ANY ($1) OR b.active = ANY ($1)

-- estimate(int4): about how many chunks a generation has
SELECT embed.estimate_chunks($1) AS chunks

-- pairs(int4, int4): vectors of randomly chosen chunks of both generations with the same text; $1: the active generation.
-- ``picked``: chunks of the other one. They are looked up one by one, because estimates are of little use here. Not those marked
-- after a change of the model, whose vectors may be of another one: see mark_chunks.
WITH picked AS MATERIALIZED ({picked}),
matched AS MATERIALIZED (
    SELECT n.document, n.id, o.document AS old_document, o.id AS old_id
    FROM picked p
    CROSS JOIN LATERAL (SELECT c.document, c.id, c.key, c.chunk FROM {new} c
                        WHERE c.document = p.document AND c.id = p.id AND c.chunk_hash <> '' OFFSET 0) n
    CROSS JOIN LATERAL (SELECT c.document, c.id FROM embed.document d
                        CROSS JOIN LATERAL (SELECT c.document, c.id FROM {old} c
                                            WHERE c.document = d.id AND c.chunk = n.chunk AND c.chunk_hash <> '' OFFSET 0) c
                        WHERE d.generation = $1 AND d.key = n.key LIMIT 1) o
    ORDER BY pg_catalog.random() LIMIT $2)
SELECT {schema}.vector_send(n.embedding) AS new, {schema}.vector_send(o.embedding) AS old
FROM matched m
CROSS JOIN LATERAL (SELECT c.embedding FROM {new} c WHERE c.document = m.document AND c.id = m.id OFFSET 0) n
CROSS JOIN LATERAL (SELECT c.embedding FROM {old} c WHERE c.document = m.old_document AND c.id = m.old_id OFFSET 0) o

-- pick_of_all(): all chunks of a small generation
SELECT g.document, g.id FROM {new} g

-- pick_by_place(): of a large one, a chunk of the document at each of twice as many random places
SELECT DISTINCT c.document, c.id
FROM (SELECT b.low + pg_catalog.floor(pg_catalog.random() * (b.high - b.low + 1))::bigint AS place
      FROM (SELECT min(g.document) AS low, max(g.document) AS high FROM {new} g) b, pg_catalog.generate_series(1, 2 * $2)
      OFFSET 0) p
CROSS JOIN LATERAL (SELECT g.document FROM {new} g WHERE g.document >= p.place ORDER BY g.document LIMIT 1) d
CROSS JOIN LATERAL (
    SELECT f.document, f.id
    FROM (SELECT g.document, g.id FROM {new} g WHERE g.document = d.document ORDER BY g.id LIMIT 50) f
    ORDER BY pg_catalog.random() LIMIT 1) c

-- vectors(float4): vectors of a generation, or of so many percent of its pages
SELECT {schema}.vector_send(g.embedding) AS vector FROM {table} g TABLESAMPLE pg_catalog.system ($1)
