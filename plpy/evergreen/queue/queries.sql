-- lock_jobs(int4, int8, jsonb[]): those of these keys that this claim still holds, except any that coalescing has locked.
-- Here and below, keys are looked up one by one (LATERAL … OFFSET 0) and rows are written by ctid: statistics of queue tables
-- are always outdated, and with them the planner read the whole table once per key.
-- Keys as one jsonb document instead of jsonb[]: 0.27 instead of 0.51 µs per key and statement, of about 4. Not worth a second
-- form.
SELECT u.key::pg_catalog.text AS key
FROM pg_catalog.unnest($3) u (key)
CROSS JOIN LATERAL (SELECT FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                    FOR UPDATE SKIP LOCKED) j

-- lock_claimed_jobs(int4, int8, jsonb[]): the same, with the jobs as they are now
SELECT u.key::pg_catalog.text AS key, j.lane, j.changes, j.attempts, j.changed_at::pg_catalog.text AS changed_at,
       j.unserved_since::pg_catalog.text AS unserved_since, j.max_batch
FROM pg_catalog.unnest($3) u (key)
CROSS JOIN LATERAL (SELECT j.lane, j.changes, j.attempts, j.changed_at, j.unserved_since, j.max_batch FROM embed.job j
                    WHERE j.generation = $1 AND j.key = u.key AND j.token = $2 FOR UPDATE SKIP LOCKED) j

-- finish_jobs(int4, int8, jsonb[], int8[]): a job is done if nothing changed since it was claimed
WITH done AS (DELETE FROM embed.job WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM unnest($3, $4) u (key, changes)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                          AND j.changes = u.changes OFFSET 0) j)) RETURNING key)
SELECT coalesce(pg_catalog.array_agg(d.key::pg_catalog.text), '{}') AS keys FROM done d

-- requeue_jobs(int4, int8, jsonb[], timestamptz): the row changed meanwhile: queues it again, at once.
-- $4: time of the data that was written, so only newer changes are still pending; NULL if nothing was written.
UPDATE embed.job SET token = NULL, ready_at = pg_catalog.clock_timestamp(), changed_at = greatest(changed_at, $4),
    unserved_since = CASE WHEN unserved_since IS NOT NULL THEN greatest(unserved_since, $4) END
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM pg_catalog.unnest($3) u (key)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2 OFFSET 0) j))

-- clear_failures(int4, jsonb[]): removes dead letters of keys that succeeded, including one that an embed_retry() is requeuing
DELETE FROM embed.failure WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM pg_catalog.unnest($2) u (key)
    CROSS JOIN LATERAL (SELECT f.ctid FROM embed.failure f WHERE f.generation = $1 AND f.key = u.key FOR UPDATE SKIP LOCKED) f
    WHERE EXISTS (SELECT FROM embed.failure f WHERE f.generation = $1)))

-- next_token(int4): an unused token, the time, and the round of the cursor over the stored documents.
-- No role can guess it and take its lock, which would make a live worker look dead. random() would not do: an owner's code in
-- this session may have called setseed().
SELECT (pg_catalog.nextval('embed.token') << 24)
       | (pg_catalog.hashtextextended(pg_catalog.gen_random_uuid()::text, 0) & 16777215) AS token,
       pg_catalog.clock_timestamp()::pg_catalog.text AS at,
       (SELECT s.round FROM embed.backfill_cursor s WHERE s.generation = $1 AND s.scope = 'document') AS round

-- abandoned_tokens(int4, int8[]): expired claims and claims whose worker is gone; $2: this session's own claims.
-- A job's own expiry is not sufficient: it may differ from the claim's if setting "lease" was just changed. A worker holds a
-- session advisory lock on its token.
SELECT coalesce(pg_catalog.array_agg(l.token), '{}') AS tokens
FROM embed.lease l
WHERE l.generation = $1 AND l.token <> ALL ($2)
  AND (l.expires_at <= pg_catalog.clock_timestamp() OR embed.is_abandoned(l.token, l.expires_at))

-- pipelines_with_abandoned_claims(int4[], int8[]): of these pipelines; $2: this session's own claims
SELECT DISTINCT g.pipeline
FROM embed.lease l
JOIN embed.generation g ON g.id = l.generation
WHERE g.pipeline = ANY ($1) AND l.token <> ALL ($2) AND embed.is_abandoned(l.token, l.expires_at)

-- tokens_with_worker(int4): claims whose worker is alive: all that are not abandoned, and never a drain's, which has no lease
SELECT coalesce(pg_catalog.array_agg(l.token), '{}') AS tokens
FROM embed.lease l
WHERE l.generation = $1 AND l.expires_at > pg_catalog.clock_timestamp() AND NOT embed.is_abandoned(l.token, l.expires_at)

-- lock_token(int4): this session holds the claim
SELECT pg_catalog.pg_try_advisory_lock({lock_claim}, $1)

-- unlock_token(int4): releases the claim; runs with the caller's search_path, so it contains no operator
SELECT pg_catalog.pg_advisory_unlock({lock_claim}, $1)

-- insert_lease(int8, int4): makes the claim visible to other sessions
INSERT INTO embed.lease (token, generation, expires_at)
VALUES ($1, $2, (SELECT embed.lease_end()))
RETURNING pg_catalog.date_part('epoch', expires_at - pg_catalog.clock_timestamp()) AS seconds

-- renew_lease(int8): extends the claim
UPDATE embed.lease SET expires_at = (SELECT embed.lease_end($1)) WHERE token = $1

-- renew_jobs(int4, int8, jsonb[]): extends the claim's jobs
UPDATE embed.job SET ready_at = (SELECT embed.lease_end($2))
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM pg_catalog.unnest($3) u (key)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                        FOR UPDATE SKIP LOCKED) j))

-- renew_texts(int4, int8, bytea[]): extends the claim's texts in flight
UPDATE embed.in_flight SET expires_at = (SELECT embed.lease_end($2))
WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM pg_catalog.unnest($3) u (hash)
    CROSS JOIN LATERAL (SELECT i.ctid FROM embed.in_flight i WHERE i.model = $1 AND i.hash = u.hash AND i.token = $2
                        FOR UPDATE SKIP LOCKED) i))

-- delete_lease(int8): the claim is finished
DELETE FROM embed.lease WHERE token = $1

-- delete_abandoned_leases(): claims that ended, by time or because their worker is gone, and have no jobs left.
-- An external claim is kept for an hour: late vectors are cached.
WITH dead AS MATERIALIZED (
    SELECT l.ctid, l.generation, l.token FROM embed.lease l
    WHERE l.expires_at < pg_catalog.clock_timestamp() - CASE WHEN l.external_interval IS NULL THEN '0 s' ELSE '1 h' END::pg_catalog.interval
       OR embed.is_abandoned(l.token, l.expires_at)
    FOR UPDATE SKIP LOCKED)
DELETE FROM embed.lease WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM dead d
    WHERE NOT EXISTS (SELECT FROM embed.job j WHERE j.generation = d.generation AND j.token = d.token)))

-- delete_abandoned_in_flight(): texts in flight of claims that ended and that no other claim has taken over
DELETE FROM embed.in_flight WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM embed.in_flight i
    WHERE i.expires_at < pg_catalog.clock_timestamp()
       OR NOT EXISTS (SELECT FROM embed.lease l WHERE l.token = i.token)
    FOR UPDATE SKIP LOCKED))

-- delete_abandoned_claimed_texts(): claimed texts of claims that no longer exist; one index step per claim
WITH RECURSIVE given (token) AS (
    (SELECT h.token FROM embed.claimed_text h ORDER BY h.token LIMIT 1)
    UNION ALL
    SELECT (SELECT h.token FROM embed.claimed_text h WHERE h.token > g.token ORDER BY h.token LIMIT 1)
    FROM given g WHERE g.token IS NOT NULL)
DELETE FROM embed.claimed_text WHERE ctid = ANY (ARRAY(
    SELECT h.ctid FROM given g JOIN embed.claimed_text h ON h.token = g.token
    WHERE NOT EXISTS (SELECT FROM embed.lease l WHERE l.token = g.token)
    FOR UPDATE OF h SKIP LOCKED))

-- delete_jobs_of_dropped(): jobs of generations dropped while a session queued their keys; one index step per generation
WITH RECURSIVE queued (generation) AS (
    (SELECT j.generation FROM embed.job j ORDER BY j.generation LIMIT 1)
    UNION ALL
    SELECT (SELECT j.generation FROM embed.job j WHERE j.generation > q.generation ORDER BY j.generation LIMIT 1)
    FROM queued q WHERE q.generation IS NOT NULL)
DELETE FROM embed.job WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM queued q JOIN embed.job j ON j.generation = q.generation
    WHERE NOT EXISTS (SELECT FROM embed.generation g WHERE g.id = q.generation)
    FOR UPDATE OF j SKIP LOCKED))

-- delete_changes_of_dropped(): changes of pipelines dropped while a session read their changes from the WAL; as above
WITH RECURSIVE logged (pipeline) AS (
    (SELECT c.pipeline FROM embed.change_log c ORDER BY c.pipeline LIMIT 1)
    UNION ALL
    SELECT (SELECT c.pipeline FROM embed.change_log c WHERE c.pipeline > l.pipeline ORDER BY c.pipeline LIMIT 1)
    FROM logged l WHERE l.pipeline IS NOT NULL)
DELETE FROM embed.change_log WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM logged l JOIN embed.change_log c ON c.pipeline = l.pipeline
    WHERE NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = l.pipeline)
    FOR UPDATE OF c SKIP LOCKED))

-- delete_cursors_of_dropped(): cursors of links that were deleted while a session queued changed values
DELETE FROM embed.link_cursor WHERE ctid = ANY (ARRAY(
    SELECT l.ctid FROM embed.link_cursor l WHERE NOT EXISTS (SELECT FROM embed.dependency d WHERE d.id = l.dependency)
    FOR UPDATE SKIP LOCKED))

-- delete_failures_of_dropped(): dead letters of dropped generations
DELETE FROM embed.failure WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM embed.failure f WHERE NOT EXISTS (SELECT FROM embed.generation g WHERE g.id = f.generation)
    FOR UPDATE SKIP LOCKED))

-- claim(int4, int4, int4, int8, int8[], xid8): claims ready jobs of a lane in queue order, starting at $6.
-- ready_at is in the future while a job is leased, so a row claimed since our snapshot fails the recheck. AS MATERIALIZED:
-- without it, LIMIT can be exceeded. The UPDATE goes by ctid, see lock_jobs.
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
          j.unserved_since::pg_catalog.text AS unserved_since, j.xid::pg_catalog.text AS xid, j.max_batch, j.batch

-- release_jobs(int4, int8, jsonb[], float8, text, text): releases claimed jobs; the last two parameters: the error, if there is
-- one, and its scope.
-- The error of a row's last attempt stays until it is tried again.
UPDATE embed.job
SET token = NULL, ready_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $4),
    last_error = CASE WHEN $5 IS NULL AND error_scope = 'row' THEN last_error ELSE $5 END,
    error_scope = CASE WHEN $5 IS NOT NULL THEN $6 WHEN error_scope = 'row' THEN error_scope END
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM pg_catalog.unnest($3) u (key)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                        FOR UPDATE SKIP LOCKED) j))

-- release_to_batch(int4, int8, jsonb[], int8, timestamptz): releases claimed jobs, which wait for a batch until its deadline
UPDATE embed.job SET token = NULL, ready_at = $5, batch = $4, last_error = NULL, error_scope = NULL
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM pg_catalog.unnest($3) u (key)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                        FOR UPDATE SKIP LOCKED) j))

-- wake_batch(int8, int4): a batch is over: jobs that wait for it can be claimed, and go by requests where they still need texts
UPDATE embed.job SET batch = 0, ready_at = CASE WHEN token IS NULL THEN least(ready_at, pg_catalog.clock_timestamp()) ELSE ready_at END
WHERE ctid = ANY (ARRAY(SELECT j.ctid FROM embed.job j WHERE j.batch = $1 AND j.batch > 0 LIMIT $2 FOR UPDATE SKIP LOCKED))

-- count_in_batches(int4[]): rows that wait for a batch; more than 5,000 of a generation are estimated
SELECT coalesce(sum(embed.rows_in_batch(g.id)), 0)::pg_catalog.int8 FROM embed.generation g
WHERE g.pipeline = ANY ($1) AND EXISTS (SELECT FROM embed.batch b WHERE b.pipeline = g.pipeline AND b.finished_at IS NULL)

-- batches_awaited(): batches that jobs wait for; one index step per batch
WITH RECURSIVE awaited (batch) AS (
    (SELECT j.batch FROM embed.job j WHERE j.batch > 0 ORDER BY j.batch LIMIT 1)
    UNION ALL
    SELECT (SELECT j.batch FROM embed.job j WHERE j.batch > a.batch AND j.batch > 0 ORDER BY j.batch LIMIT 1)
    FROM awaited a WHERE a.batch IS NOT NULL)
SELECT a.batch FROM awaited a
WHERE a.batch IS NOT NULL AND NOT EXISTS (SELECT FROM embed.batch b WHERE b.id = a.batch AND b.finished_at IS NULL)

-- limit_batch(int4, int8, jsonb[], int4): rows of a lost claim are claimed in a smaller batch the next time
UPDATE embed.job SET max_batch = $4
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM pg_catalog.unnest($3) u (key)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                        FOR UPDATE SKIP LOCKED) j))

-- set_last_error(int4, int8, jsonb[], text, text): records why claimed jobs wait for their model
UPDATE embed.job SET last_error = $4, error_scope = $5
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM pg_catalog.unnest($3) u (key)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                        FOR UPDATE SKIP LOCKED) j))

-- is_anything_left(int4[], int4[], bool): whether there are jobs ready now or soon, log rows, or running cursors.
-- $2: generations whose model is unavailable; $3: whether cursors over an unreadable source count.
WITH working AS ({working_pipelines})
SELECT EXISTS (SELECT FROM working p JOIN embed.change_log c ON c.pipeline = p.id
               WHERE c.key IS NULL OR pg_catalog.pg_column_size(c.key) <= {max_key_bytes})
    OR EXISTS (SELECT FROM working p WHERE embed.is_restored(p.id))
    OR EXISTS (SELECT FROM working p JOIN embed.link_cursor l ON l.pipeline = p.id
               WHERE l.ready_at <= pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => 0.5))
    OR EXISTS (SELECT FROM working p JOIN embed.generation g ON g.pipeline = p.id JOIN embed.backfill_cursor s ON s.generation = g.id
               WHERE s.running AND g.id <> ALL ($2) AND ($3 OR s.last_error IS NULL))
    OR EXISTS (SELECT FROM working p JOIN embed.generation g ON g.pipeline = p.id JOIN embed.job j ON j.generation = g.id
               WHERE g.id <> ALL ($2) AND j.ready_at <= pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => 0.5)) AS found

-- has_new_changes(int4[], text): whether anything was committed that the pass did not see: by later transactions, or by those open during
-- it
WITH working AS ({working_pipelines})
SELECT EXISTS (SELECT FROM working p JOIN embed.change_log c ON c.pipeline = p.id
               WHERE c.xid >= pg_catalog.pg_snapshot_xmax($2::pg_catalog.pg_snapshot))
    OR EXISTS (SELECT FROM working p
               CROSS JOIN LATERAL pg_catalog.pg_snapshot_xip($2::pg_catalog.pg_snapshot) x (xid)
               JOIN embed.change_log c ON c.pipeline = p.id AND c.xid = x.xid)

-- working_pipelines(): those of the pipelines $1 that have work if they have changes
SELECT p.id FROM embed.pipeline p
WHERE p.id = ANY ($1) AND p.state = 'active' AND p.broken_reason IS NULL AND (embed.missing_part(p.id)).what IS NULL

-- has_leases_or_broken_source(int4): whether there are leases whose worker may be gone, or a broken source to check again
SELECT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = $1 AND p.broken_reason IS NOT NULL)
    OR EXISTS (SELECT FROM embed.generation g JOIN embed.lease l ON l.generation = g.id WHERE g.pipeline = $1)

-- is_empty_and_bloated(): whether the queue is empty but its table is full of dead rows.
-- Autovacuum learns of a session's deletes only at the end of its statement, and a CALL runs for a minute or forever; while
-- another transaction is open, it can remove nothing. Measured at 1,000 changes per second: 28 MB after 100 s. ANALYZE does not
-- tell it either: it leaves out deletes that its own session has not reported.
SELECT pg_catalog.pg_relation_size('embed.job') > 2 * 1024 * 1024 AND NOT EXISTS (SELECT FROM embed.job) AS is_bloated

-- has_only_own_jobs(int8[]): the same, but ignores jobs of these claims: under steady load a worker's queue is never emptier
SELECT pg_catalog.pg_relation_size('embed.job') > 4 * 1024 * 1024
   AND NOT EXISTS (SELECT FROM embed.job j WHERE j.token IS NULL OR j.token <> ALL ($1)) AS has_only_own

-- lock_job_table(): writers never use this table; sessions that queued or claimed jobs hold a lock that this does not get past
LOCK TABLE embed.job IN ACCESS EXCLUSIVE MODE NOWAIT

-- truncate_queue(): replaces the table's storage
TRUNCATE embed.job

-- insert_job(int4, jsonb): takes the place of the row's job, if there is none; waits for a session that is inserting one
INSERT INTO embed.job (generation, key) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING generation

-- lock_job(int4, jsonb): keeps other sessions from changing this row's job
SELECT j.token FROM embed.job j WHERE j.generation = $1 AND j.key = $2 FOR UPDATE

-- delete_job(int4, jsonb): nothing needs to be done for this row
DELETE FROM embed.job WHERE generation = $1 AND key = $2

-- reset_job(int4, jsonb): takes the row from its current claim and queues it as new
UPDATE embed.job
SET token = NULL, changes = changes + 1, attempts = 0, last_error = NULL, ready_at = pg_catalog.clock_timestamp()
WHERE generation = $1 AND key = $2

-- delete_failure(int4, jsonb): deletes the dead letter, whose message may quote the text
DELETE FROM embed.failure WHERE generation = $1 AND key = $2

-- changes_of_key(int4, jsonb): changes that no worker has processed
SELECT c.ctid::pg_catalog.text AS ctid FROM embed.change_log c WHERE c.pipeline = $1 AND c.key = $2

-- delete_changes(jsonb, text[]): log rows of an absent row need no check
DELETE FROM embed.change_log WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM embed.change_log c WHERE c.ctid = ANY ($2::pg_catalog.tid[]) AND c.key = $1 FOR UPDATE SKIP LOCKED))

-- release_claims(int4[]): discards the claims of these generations; their jobs become claimable at once
WITH jobs AS (UPDATE embed.job SET token = NULL, ready_at = pg_catalog.clock_timestamp(), batch = NULL
              WHERE generation = ANY ($1) AND (token IS NOT NULL OR batch > 0))
DELETE FROM embed.lease WHERE generation = ANY ($1)

-- delete_work(int4[]): deletes all queued and failed work of these generations
WITH jobs AS (DELETE FROM embed.job WHERE generation = ANY ($1)),
     leases AS (DELETE FROM embed.lease WHERE generation = ANY ($1)),
     cursors AS (DELETE FROM embed.backfill_cursor WHERE generation = ANY ($1))
DELETE FROM embed.failure WHERE generation = ANY ($1)
