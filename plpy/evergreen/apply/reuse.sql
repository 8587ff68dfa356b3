-- model_tables(int4): the live generations of a model
SELECT g.id, g.pipeline FROM embed.generation g WHERE g.model = $1 ORDER BY g.id

-- own_pipelines(int4, text): the pipelines that a role administers, or where it is NULL the owner of pipeline $1's table;
-- NULL for embed_admin: all, and those that are gone
SELECT CASE WHEN NOT coalesce(pg_catalog.pg_has_role(w.role, 'embed_admin', 'USAGE'), false) THEN ARRAY(
    SELECT p.id FROM embed.pipeline p LEFT JOIN pg_catalog.pg_class c ON c.oid = p.source
    WHERE p.id = $1 OR coalesce(pg_catalog.pg_has_role(w.role, c.relowner, 'USAGE'), false)) END AS ids
FROM (SELECT coalesce($2::name, (SELECT pg_catalog.pg_get_userbyid(c.relowner)
                                 FROM embed.pipeline p JOIN pg_catalog.pg_class c ON c.oid = p.source WHERE p.id = $1)) AS role) w

-- look_up(int4, bytea[], int4[]): vectors that exist already, live or kept, and whether they are of the pipelines $3 (NULL: all);
-- one statement, so that a text is seen either here or in flight. The arms are one for each live generation
SELECT c.hash, {schema}.vector_send(c.embedding) AS embedding, coalesce($3 IS NULL OR c.pipeline = ANY ($3), false) AS is_own
FROM pg_catalog.unnest($2) u (hash)
CROSS JOIN LATERAL (SELECT c.hash, c.embedding, c.pipeline FROM embed.cache c
                    WHERE c.model = $1 AND c.hash = u.hash OFFSET 0) c
{live}

-- live_arm(): one live generation
UNION ALL SELECT g.chunk_hash, {schema}.vector_send(g.embedding), $3 IS NULL OR {pipeline} = ANY ($3)
FROM pg_catalog.unnest($2) u (hash)
CROSS JOIN LATERAL (SELECT g.chunk_hash, g.embedding FROM embed_store.g{generation} g WHERE g.chunk_hash = u.hash LIMIT 1) g

-- claim_texts(int4, bytea[], int8): in one order everywhere. DO NOTHING, because DO UPDATE would lock the rows of others
-- even where its WHERE refuses them, and the worker whose text it is could not land it.
INSERT INTO embed.inflight (model, hash, token, expires_at)
SELECT $1, h.hash, $3, (SELECT embed.lease_end($3))
FROM (SELECT DISTINCT u.hash FROM pg_catalog.unnest($2) u (hash)) h
ORDER BY h.hash
ON CONFLICT (model, hash) DO NOTHING
RETURNING hash

-- take_over(int4, bytea[], int8, int8[]): texts of claims that are dead or over, and our own
UPDATE embed.inflight
SET token = $3, expires_at = (SELECT embed.lease_end($3))
WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM pg_catalog.unnest($2) u (hash)
    CROSS JOIN LATERAL (SELECT i.ctid FROM embed.inflight i
                        WHERE i.model = $1 AND i.hash = u.hash
                          AND (i.expires_at <= pg_catalog.clock_timestamp() OR i.token = ANY ($4) OR i.token = $3)
                        FOR UPDATE SKIP LOCKED) i))
RETURNING hash

-- land(int4, bytea[], int8): these texts are no longer in flight
DELETE FROM embed.inflight WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM pg_catalog.unnest($2) u (hash)
    CROSS JOIN LATERAL (SELECT i.ctid FROM embed.inflight i WHERE i.model = $1 AND i.hash = u.hash AND i.token = $3
                        FOR UPDATE SKIP LOCKED) i))

-- dead_tokens(int8[]): claims of any generation whose worker is gone
SELECT coalesce(pg_catalog.array_agg(l.token), '{}') AS tokens
FROM embed.lease l
WHERE l.token <> ALL ($1)
  AND embed.is_abandoned(l.token, l.expires_at)
