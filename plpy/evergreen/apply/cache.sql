-- cache(int4, bytea[], {vector}[], int4, jsonb[], bool): vectors of texts no longer live (then $6), or that came too late, and
-- whose they were
INSERT INTO embed.cache (model, hash, embedding, pipeline, key, replaced)
SELECT DISTINCT ON (u.hash) $1, u.hash, u.embedding, $4, u.key, $6 FROM unnest($2, $3, $5) u (hash, embedding, key) ORDER BY u.hash
ON CONFLICT (model, hash) DO UPDATE
SET kept_at = pg_catalog.clock_timestamp(), pipeline = EXCLUDED.pipeline, key = EXCLUDED.key, replaced = EXCLUDED.replaced

-- purge_cache(text): vectors kept longer than cache_retention
WITH old AS (
    SELECT c.ctid FROM embed.cache c WHERE c.kept_at < pg_catalog.clock_timestamp() - $1::pg_catalog.interval
    ORDER BY c.kept_at LIMIT 10000 FOR UPDATE SKIP LOCKED)
DELETE FROM embed.cache c USING old WHERE c.ctid = old.ctid

-- trim_cache(int8): the oldest vectors of replaced texts, where there are more than $1; NULL: more than are live, and 1,000
-- So bulk edits, each of which replaces every vector, do not add up. Counted while the cache is small, else estimated: this runs
-- every minute. What was imported, or came too late, is yet to be used, and stays.
WITH live AS (
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
    LIMIT (SELECT least(greatest(k.vectors - coalesce($1, greatest(l.vectors, 1000)), 0), 20000)::pg_catalog.int8 FROM live l, kept k)
    FOR UPDATE SKIP LOCKED)
DELETE FROM embed.cache c USING old WHERE c.ctid = old.ctid

-- purge_erased(): by now whoever was late has come
DELETE FROM embed.forgotten WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM embed.forgotten f
    WHERE f.forgotten_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(days => 1) FOR UPDATE SKIP LOCKED))
