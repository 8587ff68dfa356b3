-- next_token(int4): a token that was never used, the time, and the round of the cursor over the stored documents
-- No role can know it before and hold its lock, or a live worker would look dead. random() would not do: an owner's code
-- that ran in this session may have called setseed().
SELECT (pg_catalog.nextval('embed.token') << 24)
       | (pg_catalog.hashtextextended(pg_catalog.gen_random_uuid()::text, 0) & 16777215) AS token,
       pg_catalog.clock_timestamp()::pg_catalog.text AS at,
       (SELECT s.round FROM embed.scan s WHERE s.generation = $1 AND s.scope = 'document') AS round

-- dead_tokens(int4, int8[]): claims whose time is up or whose worker is gone; $2 are our own
-- That a job's own time is up is not enough: it may have been given another one, if setting "lease" was changed just then.
-- A worker holds a session advisory lock on its token.
SELECT coalesce(pg_catalog.array_agg(l.token), '{}') AS tokens
FROM embed.lease l
WHERE l.generation = $1 AND l.token <> ALL ($2)
  AND (l.expires_at <= pg_catalog.clock_timestamp() OR embed.is_abandoned(l.token, l.expires_at))

-- hold_token(int4): this session has the claim
SELECT pg_catalog.pg_try_advisory_lock(1163285062, $1)

-- free_token(int4): this session gives the claim up; runs with the caller's search_path, so there is no operator in it
SELECT pg_catalog.pg_advisory_unlock(1163285062, $1)

-- put_lease(int8, int4): the claim as others see it
INSERT INTO embed.lease (token, generation, expires_at)
VALUES ($1, $2, (SELECT embed.lease_end()))
RETURNING pg_catalog.date_part('epoch', expires_at - pg_catalog.clock_timestamp()) AS seconds

-- renew_lease(int8): the claim as others see it, some more time
UPDATE embed.lease SET expires_at = (SELECT embed.lease_end($1)) WHERE token = $1

-- renew_jobs(int4, int8, jsonb[]): its jobs
UPDATE embed.job SET ready_at = (SELECT embed.lease_end($2))
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM pg_catalog.unnest($3) u (key)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                        FOR UPDATE SKIP LOCKED) j))

-- renew_texts(int4, int8, bytea[]): its texts in flight
UPDATE embed.inflight SET expires_at = (SELECT embed.lease_end($2))
WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM pg_catalog.unnest($3) u (hash)
    CROSS JOIN LATERAL (SELECT i.ctid FROM embed.inflight i WHERE i.model = $1 AND i.hash = u.hash AND i.token = $2
                        FOR UPDATE SKIP LOCKED) i))

-- drop_lease(int8): the claim is finished
DELETE FROM embed.lease WHERE token = $1

-- drop_dead_leases(): claims that are over, by time or because their worker is gone, and have no job left
-- One outside is remembered for an hour: what comes late is kept.
WITH dead AS MATERIALIZED (
    SELECT l.ctid, l.generation, l.token FROM embed.lease l
    WHERE l.expires_at < pg_catalog.clock_timestamp() - CASE WHEN l.outside IS NULL THEN '0 s' ELSE '1 h' END::pg_catalog.interval
       OR embed.is_abandoned(l.token, l.expires_at)
    FOR UPDATE SKIP LOCKED)
DELETE FROM embed.lease WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM dead d
    WHERE NOT EXISTS (SELECT FROM embed.job j WHERE j.generation = d.generation AND j.token = d.token)))

-- drop_dead_texts(): texts in flight of claims that are over, which nobody has asked for since
DELETE FROM embed.inflight WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM embed.inflight i
    WHERE i.expires_at < pg_catalog.clock_timestamp()
       OR NOT EXISTS (SELECT FROM embed.lease l WHERE l.token = i.token)
    FOR UPDATE SKIP LOCKED))

-- drop_dead_handed(): texts handed out of claims that nobody remembers. One step in the index a claim.
WITH RECURSIVE given (token) AS (
    (SELECT h.token FROM embed.handed h ORDER BY h.token LIMIT 1)
    UNION ALL
    SELECT (SELECT h.token FROM embed.handed h WHERE h.token > g.token ORDER BY h.token LIMIT 1)
    FROM given g WHERE g.token IS NOT NULL)
DELETE FROM embed.handed WHERE ctid = ANY (ARRAY(
    SELECT h.ctid FROM given g JOIN embed.handed h ON h.token = g.token
    WHERE NOT EXISTS (SELECT FROM embed.lease l WHERE l.token = g.token)
    FOR UPDATE OF h SKIP LOCKED))

-- drop_orphaned_jobs(): of generations that went while somebody queued their keys. One step in the index a generation.
WITH RECURSIVE queued (generation) AS (
    (SELECT j.generation FROM embed.job j ORDER BY j.generation LIMIT 1)
    UNION ALL
    SELECT (SELECT j.generation FROM embed.job j WHERE j.generation > q.generation ORDER BY j.generation LIMIT 1)
    FROM queued q WHERE q.generation IS NOT NULL)
DELETE FROM embed.job WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM queued q JOIN embed.job j ON j.generation = q.generation
    WHERE NOT EXISTS (SELECT FROM embed.generation g WHERE g.id = q.generation)
    FOR UPDATE OF j SKIP LOCKED))

-- drop_orphaned_changes(): of pipelines that went while somebody read their changes in the WAL; as above
WITH RECURSIVE logged (pipeline) AS (
    (SELECT c.pipeline FROM embed.change c ORDER BY c.pipeline LIMIT 1)
    UNION ALL
    SELECT (SELECT c.pipeline FROM embed.change c WHERE c.pipeline > l.pipeline ORDER BY c.pipeline LIMIT 1)
    FROM logged l WHERE l.pipeline IS NOT NULL)
DELETE FROM embed.change WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM logged l JOIN embed.change c ON c.pipeline = l.pipeline
    WHERE NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = l.pipeline)
    FOR UPDATE OF c SKIP LOCKED))

-- drop_orphaned_failures(): dead letters of such generations
DELETE FROM embed.failure WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM embed.failure f WHERE NOT EXISTS (SELECT FROM embed.generation g WHERE g.id = f.generation)
    FOR UPDATE SKIP LOCKED))

-- claim(int4, int4, int4, int8, int8[], xid8): takes ready jobs of a lane in queue order, from $6 on
-- ready_at is in the future while a job is leased, so a row that was claimed since our snapshot fails the recheck.
-- AS MATERIALIZED: without it LIMIT can be exceeded. The UPDATE goes by ctid, see apply/write.sql.
WITH picked AS MATERIALIZED (
    SELECT j.ctid FROM embed.job j
    WHERE j.generation = $1 AND j.lane = $2 AND j.lane IN (0, 1) AND j.xid >= $6
      AND (j.ready_at <= pg_catalog.clock_timestamp() OR j.token = ANY ($5))
    ORDER BY j.xid
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
UPDATE embed.job j
SET token = $4, ready_at = (SELECT embed.lease_end($4))
WHERE j.ctid = ANY (ARRAY(SELECT p.ctid FROM picked p))
RETURNING j.key::pg_catalog.text AS key, j.lane, j.changes, j.attempts, j.changed_at::pg_catalog.text AS changed_at,
          j.unserved_since::pg_catalog.text AS unserved_since, j.xid::pg_catalog.text AS xid, j.max_batch

-- put_back(int4, int8, jsonb[], float8, text, text): claimed jobs that are not worked on now; the last two: why, where that is an error
UPDATE embed.job
SET token = NULL, ready_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $4),
    last_error = $5, error_scope = CASE WHEN $5 IS NOT NULL THEN $6 END
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM pg_catalog.unnest($3) u (key)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                        FOR UPDATE SKIP LOCKED) j))

-- explain(int4, int8, jsonb[], text, text): claimed jobs wait for their model
UPDATE embed.job SET last_error = $4, error_scope = $5
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM pg_catalog.unnest($3) u (key)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                        FOR UPDATE SKIP LOCKED) j))

-- anything_left(int4[], int4[], bool): jobs ready now or in an instant, log rows, running cursors. $2: generations whose
-- model rests; $3: cursors over a source that could not be read, too
WITH working AS (
    SELECT p.id FROM embed.pipeline p
    WHERE p.id = ANY ($1) AND p.state = 'active' AND p.broken_reason IS NULL AND (embed.torn(p.id)).what IS NULL)
SELECT EXISTS (SELECT FROM working p JOIN embed.change c ON c.pipeline = p.id
               WHERE c.key IS NULL OR pg_catalog.pg_column_size(c.key) <= 2600)
    OR EXISTS (SELECT FROM working p WHERE embed.is_restored(p.id))
    OR EXISTS (SELECT FROM working p JOIN embed.generation g ON g.pipeline = p.id JOIN embed.scan s ON s.generation = g.id
               WHERE s.running AND g.id <> ALL ($2) AND ($3 OR s.last_error IS NULL))
    OR EXISTS (SELECT FROM working p JOIN embed.generation g ON g.pipeline = p.id JOIN embed.job j ON j.generation = g.id
               WHERE g.id <> ALL ($2) AND j.ready_at <= pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => 0.5)) AS found

-- lost_claims(int4): are there leases to look at, whose worker may be gone, or a reason to look at the source again
SELECT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = $1 AND p.broken_reason IS NOT NULL)
    OR EXISTS (SELECT FROM embed.generation g JOIN embed.lease l ON l.generation = g.id WHERE g.pipeline = $1)

-- is_spent(): is the queue empty, and its table full of what was done
-- What a session has deleted autovacuum learns at the end of its statement only, and a CALL goes on for a minute or for ever;
-- beside an open transaction it can take nothing away. Measured at 1,000 changes a second: 28 MB after 100 s. ANALYZE tells it
-- nothing: that leaves out what its own session has deleted and not reported.
SELECT pg_catalog.pg_relation_size('embed.job') > 2 * 1024 * 1024 AND NOT EXISTS (SELECT FROM embed.job) AS spent

-- is_all_in_hand(int8[]): as above, but for what these claims have; under a steady load a worker's queue is never emptier
SELECT pg_catalog.pg_relation_size('embed.job') > 4 * 1024 * 1024
   AND NOT EXISTS (SELECT FROM embed.job j WHERE j.token IS NULL OR j.token <> ALL ($1)) AS so

-- lock_queue(): writers never come here; whoever has queued something, or claimed it, has a lock that this does not get past
LOCK TABLE embed.job IN ACCESS EXCLUSIVE MODE NOWAIT

-- empty_queue(): a new table
TRUNCATE embed.job
