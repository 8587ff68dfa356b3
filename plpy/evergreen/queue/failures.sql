-- reschedule(int4, int8, jsonb[], text[], float8[], int4[], text[], int4[]): failed jobs wait for a retry.
-- The last parameters: attempts so far, scope of the message, and most texts in the next request that includes them.
UPDATE embed.job j
SET token = NULL, ready_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => w.seconds),
    last_error = CASE WHEN w.scope = 'rest' AND j.error_scope = 'service' THEN j.last_error ELSE w.message END,
    error_scope = CASE WHEN w.scope = 'rest' AND j.error_scope = 'service' THEN j.error_scope ELSE w.scope END, attempts = w.attempts,
    max_batch = coalesce(w.max_batch, j.max_batch)
FROM (SELECT j.ctid, u.* FROM unnest($3, $4, $5, $6, $7, $8) u (key, message, seconds, attempts, scope, max_batch)
      CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                          OFFSET 0) j OFFSET 0) w
WHERE j.ctid = w.ctid

-- insert_dead_letters(int4, jsonb[], text[], text[], int4[], timestamptz[]): inserts or updates dead letters
INSERT INTO embed.failure (generation, key, class, message, attempts, first_at, last_at, unserved_since)
SELECT $1, u.key, u.class, u.message, u.attempts, t.now, t.now, u.unserved_since
FROM unnest($2, $3, $4, $5, $6) u (key, class, message, attempts, unserved_since)
CROSS JOIN (SELECT pg_catalog.clock_timestamp() AS now OFFSET 0) t
ON CONFLICT (generation, key) DO UPDATE
SET class = EXCLUDED.class, message = EXCLUDED.message, attempts = EXCLUDED.attempts, last_at = EXCLUDED.last_at,
    unserved_since = least(embed.failure.unserved_since, EXCLUDED.unserved_since)

-- log_waiting_jobs(int4, int4[]): queues rows of these generations that wait after an error, in the change log
INSERT INTO embed.change_log (pipeline, key, recheck)
SELECT DISTINCT $1, j.key, true FROM embed.job j
WHERE j.generation = ANY ($2) AND j.token IS NULL AND (j.last_error IS NOT NULL OR j.ready_at > pg_catalog.clock_timestamp())

-- requeue_failed_keys(int4, int4[], jsonb): queues failed keys of these generations, all or one, in the change log.
-- A dead letter that a drain has locked is being rewritten or cleared: the drain decides about it, and its key is checked once
-- more afterwards. Lag keeps counting from the change that failed. A worker that fails to finish a logged key leaves it queued,
-- so the DELETE loses nothing.
WITH dead AS MATERIALIZED (
    SELECT f.key, f.unserved_since FROM embed.failure f WHERE f.generation = ANY ($2) AND ($3 IS NULL OR f.key = $3)
), held AS MATERIALIZED (
    SELECT f.ctid FROM embed.failure f WHERE f.generation = ANY ($2) AND ($3 IS NULL OR f.key = $3) FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM embed.failure WHERE ctid = ANY (ARRAY(SELECT h.ctid FROM held h))
), waiting AS MATERIALIZED (
    SELECT j.key FROM embed.job j
    WHERE j.generation = ANY ($2) AND ($3 IS NULL OR j.key = $3)
      AND j.token IS NULL AND (j.last_error IS NOT NULL OR j.ready_at > pg_catalog.clock_timestamp())
)
INSERT INTO embed.change_log (pipeline, key, changed_at, recheck)
SELECT $1, k.key, coalesce(min(k.since), pg_catalog.clock_timestamp()), min(k.since) IS NULL
FROM (SELECT d.key, d.unserved_since AS since FROM dead d UNION ALL SELECT w.key, NULL FROM waiting w) k
GROUP BY k.key

-- retry_model_jobs(int4): rows waiting for the model are tried at once
UPDATE embed.job SET ready_at = pg_catalog.clock_timestamp()
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM embed.generation g JOIN embed.job j ON j.generation = g.id
    WHERE g.model = $1 AND j.token IS NULL AND j.ready_at > pg_catalog.clock_timestamp() FOR UPDATE OF j SKIP LOCKED))

-- retry_endpoint_jobs(int4): rows waiting for a model of the endpoint are tried at once
UPDATE embed.job SET ready_at = pg_catalog.clock_timestamp()
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM embed.endpoint e JOIN embed.model m ON m.endpoint = e.name
    JOIN embed.generation g ON g.model = m.id JOIN embed.job j ON j.generation = g.id
    WHERE e.id = $1 AND j.token IS NULL AND j.ready_at > pg_catalog.clock_timestamp() FOR UPDATE OF j SKIP LOCKED))
