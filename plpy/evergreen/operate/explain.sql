-- job(int4, jsonb): the work that waits for a key
SELECT j.lane, j.attempts, j.last_error, j.changed_at::pg_catalog.text AS changed_at,
       j.ready_at::pg_catalog.text AS ready_at, j.ready_at > pg_catalog.clock_timestamp() AS waits, l.token IS NOT NULL AS claimed
FROM embed.job j LEFT JOIN embed.lease l ON l.token = j.token AND l.expires_at > pg_catalog.clock_timestamp()
WHERE j.generation = $1 AND j.key = $2

-- changes(int4, jsonb): log rows not folded yet
SELECT count(*) AS changes, min(c.changed_at)::pg_catalog.text AS since FROM embed.change c WHERE c.pipeline = $1 AND c.key = $2

-- document(int4, jsonb): what is recorded
SELECT d.id, d.fingerprint, d.src_hash, d.chunks, d.changed_at::pg_catalog.text AS changed_at,
       d.embedded_at::pg_catalog.text AS embedded_at
FROM embed.document d WHERE d.generation = $1 AND d.key = $2

-- failure(int4, jsonb): the dead letter
SELECT f.class, f.message, f.attempts, f.first_at::pg_catalog.text AS first_at, f.last_at::pg_catalog.text AS last_at
FROM embed.failure f WHERE f.generation = $1 AND f.key = $2
