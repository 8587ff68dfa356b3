-- insert_cached(int4, bytea[], {vector}[], int4, jsonb[], bool, int4): caches vectors of texts that are no longer stored ($6 true) or that
-- arrived too late, and the rows they belonged to; $7: the model's revision. A marked chunk has an empty hash: see mark_chunks
INSERT INTO embed.cache (model, hash, embedding, pipeline, key, replaced, revision)
SELECT DISTINCT ON (u.hash) $1, u.hash, u.embedding, $4, u.key, $6, $7 FROM unnest($2, $3, $5) u (hash, embedding, key)
WHERE u.hash <> '' ORDER BY u.hash
ON CONFLICT (model, hash) DO UPDATE
SET kept_at = pg_catalog.clock_timestamp(), pipeline = EXCLUDED.pipeline, key = EXCLUDED.key, replaced = EXCLUDED.replaced

-- check_cache_unlocked(): raises 55P03 if another session has locked the whole table
LOCK TABLE embed.cache IN ROW EXCLUSIVE MODE NOWAIT

-- purge_cache(text): vectors cached longer than cache_retention, without those that a batch brought for a row that is not written yet
WITH old AS (
    SELECT c.ctid FROM embed.cache c
    WHERE c.kept_at < pg_catalog.clock_timestamp() - $1::pg_catalog.interval
      AND NOT EXISTS (SELECT FROM embed.generation g JOIN embed.job j ON j.generation = g.id AND j.key = c.key AND j.batch IS NOT NULL
                      WHERE g.pipeline = c.pipeline)
    ORDER BY c.kept_at LIMIT 10000 FOR UPDATE SKIP LOCKED)
DELETE FROM embed.cache c USING old WHERE c.ctid = old.ctid

-- trim_cache(int8): the oldest vectors of replaced texts beyond $1; NULL: beyond the number of stored vectors, at least 1,000.
-- So bulk edits, each of which replaces every vector, do not add up. Counts while the cache is small, otherwise estimates: this
-- runs every minute. Imported and late vectors are still to be used, and stay.
WITH stored AS (
    SELECT coalesce(sum(CASE WHEN c.reltuples >= 0 THEN c.reltuples
                             ELSE (SELECT sum(d.chunks) FROM embed.document d WHERE d.generation = g.id) END), 0) AS vectors
    FROM embed.generation g JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass('embed_store.g' || g.id)
), kept AS (
    SELECT CASE WHEN c.reltuples < 0 OR pg_catalog.pg_relation_size(c.oid) < 256 * 1024 * 1024
                THEN (SELECT count(*) FROM embed.cache k WHERE k.replaced) ELSE c.reltuples END AS vectors
    FROM pg_catalog.pg_class c WHERE c.oid = 'embed.cache'::pg_catalog.regclass
), old AS (
    SELECT c.ctid FROM embed.cache c WHERE c.replaced
    ORDER BY c.kept_at
    LIMIT (SELECT least(greatest(k.vectors - coalesce($1, greatest(s.vectors, 1000)), 0), 20000)::pg_catalog.int8 FROM stored s, kept k)
    FOR UPDATE SKIP LOCKED)
DELETE FROM embed.cache c USING old WHERE c.ctid = old.ctid

-- purge_erased(): late workers have finished by now
DELETE FROM embed.erased_text WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM embed.erased_text f
    WHERE f.erased_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(days => 1) FOR UPDATE SKIP LOCKED))

-- generations_of_model(int4, int4, int4): generations with vectors of a model's revision, without those of other pipelines than $3
-- that take the vectors of any model
SELECT g.id, g.pipeline FROM embed.generation g LEFT JOIN embed.pipeline p ON p.id = g.pipeline
WHERE g.model = $1 AND g.model_revision = $2 AND (g.pipeline = $3 OR p.options ->> 'on_model_change' IS DISTINCT FROM 'warn')
ORDER BY g.id

-- own_pipelines(int4, text): pipelines that a role administers; role NULL: the owner of pipeline $1's table.
-- Returns NULL for embed_admin: all pipelines, including dropped ones.
SELECT CASE WHEN NOT coalesce(pg_catalog.pg_has_role(w.role, 'embed_admin', 'USAGE'), false) THEN ARRAY(
    SELECT p.id FROM embed.pipeline p LEFT JOIN pg_catalog.pg_class c ON c.oid = p.source
    WHERE p.id = $1 OR coalesce(pg_catalog.pg_has_role(w.role, c.relowner, 'USAGE'), false)) END AS ids
FROM (SELECT coalesce($2::name, (SELECT pg_catalog.pg_get_userbyid(c.relowner)
                                 FROM embed.pipeline p JOIN pg_catalog.pg_class c ON c.oid = p.source WHERE p.id = $1)) AS role) w

-- find_vectors(int4, bytea[], int4[]): existing vectors, stored or cached, and whether they belong to the pipelines $3 (NULL: all).
-- One statement, so that a text is seen either here or in flight. It has one arm for each generation.
SELECT c.hash, {schema}.vector_send(c.embedding) AS embedding, coalesce($3 IS NULL OR c.pipeline = ANY ($3), false) AS is_own
FROM pg_catalog.unnest($2) u (hash)
CROSS JOIN LATERAL (SELECT c.hash, c.embedding, c.pipeline FROM embed.cache c
                    WHERE c.model = $1 AND c.hash = u.hash OFFSET 0) c
{stored}

-- find_stored_vectors(): one generation
UNION ALL SELECT g.chunk_hash, {schema}.vector_send(g.embedding), $3 IS NULL OR {pipeline} = ANY ($3)
FROM pg_catalog.unnest($2) u (hash)
CROSS JOIN LATERAL (SELECT g.chunk_hash, g.embedding FROM embed_store.g{generation} g WHERE g.chunk_hash = u.hash LIMIT 1) g

-- mark_in_flight(int4, bytea[], int8): different texts, inserted in the same order in every session: sorted
INSERT INTO embed.in_flight (model, hash, token, expires_at)
SELECT $1, u.hash, $3, (SELECT embed.lease_end($3)) FROM pg_catalog.unnest($2) u (hash)

-- mark_free_in_flight(int4, bytea[], int8): the same, without texts that are in flight. DO NOTHING, because DO UPDATE would lock
-- other sessions' rows.
-- It locks them even if its WHERE excludes them, and the worker that sends the text could not record its result.
INSERT INTO embed.in_flight (model, hash, token, expires_at)
SELECT $1, u.hash, $3, (SELECT embed.lease_end($3)) FROM pg_catalog.unnest($2) u (hash)
ON CONFLICT (model, hash) DO NOTHING

-- marked_in_flight(int4, bytea[], int8): texts that a claim has marked
SELECT i.hash FROM pg_catalog.unnest($2) u (hash)
CROSS JOIN LATERAL (SELECT i.hash FROM embed.in_flight i WHERE i.model = $1 AND i.hash = u.hash AND i.token = $3 OFFSET 0) i

-- take_over_in_flight(int4, bytea[], int8, int8[]): texts of claims that are dead or expired, and of this session's claims
UPDATE embed.in_flight
SET token = $3, expires_at = (SELECT embed.lease_end($3))
WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM pg_catalog.unnest($2) u (hash)
    CROSS JOIN LATERAL (SELECT i.ctid FROM embed.in_flight i
                        WHERE i.model = $1 AND i.hash = u.hash
                          AND (i.expires_at <= pg_catalog.clock_timestamp() OR i.token = ANY ($4) OR i.token = $3)
                        FOR UPDATE SKIP LOCKED) i))
RETURNING hash

-- clear_in_flight_at_once(int4, bytea[], int8): these texts are no longer in flight. Waits for a session that takes one over
DELETE FROM embed.in_flight WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM pg_catalog.unnest($2) u (hash)
    CROSS JOIN LATERAL (SELECT i.ctid FROM embed.in_flight i WHERE i.model = $1 AND i.hash = u.hash AND i.token = $3 OFFSET 0) i))

-- clear_in_flight(int4, bytea[], int8): the same, at twice the cost, but for texts that another session takes over
DELETE FROM embed.in_flight WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM pg_catalog.unnest($2) u (hash)
    CROSS JOIN LATERAL (SELECT i.ctid FROM embed.in_flight i WHERE i.model = $1 AND i.hash = u.hash AND i.token = $3
                        FOR UPDATE SKIP LOCKED) i))

-- tokens_without_worker(int8[]): claims of any generation whose worker is gone; take_over_in_flight compares the expiry
SELECT coalesce(pg_catalog.array_agg(l.token), '{}') AS tokens
FROM embed.lease l
WHERE l.token <> ALL ($1)
  AND embed.is_abandoned(l.token, l.expires_at)

-- delete_stored_from_cache(int4, bytea[]): cached vectors that are stored now
DELETE FROM embed.cache WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM pg_catalog.unnest($2) u (hash)
    CROSS JOIN LATERAL (SELECT c.ctid FROM embed.cache c WHERE c.model = $1 AND c.hash = u.hash FOR UPDATE SKIP LOCKED) c
    WHERE EXISTS (SELECT FROM {table} g WHERE g.chunk_hash = u.hash)))

-- clear_all_in_flight(int4[]): no text of these models is in flight
DELETE FROM embed.in_flight WHERE model = ANY ($1)

-- delete_cache_of_model(int4): cached vectors of a model, and its texts in flight
WITH cached AS (DELETE FROM embed.cache WHERE model = $1)
DELETE FROM embed.in_flight WHERE model = $1
