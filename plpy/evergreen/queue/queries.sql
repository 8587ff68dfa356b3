-- hold_round(int4): the round of the cursor over the stored documents, which does not start another before we commit
-- KEY SHARE: an open drain keeps this lock, and cursors may move meanwhile; only coalescing, which starts another round, waits
-- (see fold_scopes): a round that passed before the drain's documents could be seen would leave them for ever where the
-- source was truncated. Nothing is returned while somebody starts another round.
SELECT s.round FROM embed.backfill_cursor s WHERE s.generation = $1 AND s.scope = 'document' FOR KEY SHARE SKIP LOCKED

-- lock_jobs(int4, int8, jsonb[]): of these keys, those that are still ours; one that coalescing holds just now is not
-- Here and below keys are looked up one by one (LATERAL … OFFSET 0) and rows are written by ctid: the statistics of queue
-- tables are those of another moment, and with them the planner was seen to read the table once a key.
-- Keys as one jsonb document rather than as jsonb[]: 0.27 for 0.51 µs a key and statement, of some 4. Not worth a second form.
SELECT u.key::pg_catalog.text AS key
FROM pg_catalog.unnest($3) u (key)
CROSS JOIN LATERAL (SELECT FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                    FOR UPDATE SKIP LOCKED) j

-- finish(int4, int8, jsonb[], int8[]): a job is done if nothing changed since it was claimed
DELETE FROM embed.job WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM unnest($3, $4) u (key, changes)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                          AND j.changes = u.changes OFFSET 0) j))
RETURNING key::pg_catalog.text AS key

-- requeue(int4, int8, jsonb[], timestamptz): it changed meanwhile: once more, at once. $4: what was written is as of then, so
-- what is left to be done is newer; NULL when nothing was written
UPDATE embed.job SET token = NULL, ready_at = pg_catalog.clock_timestamp(), changed_at = greatest(changed_at, $4),
    unserved_since = CASE WHEN unserved_since IS NOT NULL THEN greatest(unserved_since, $4) END
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM pg_catalog.unnest($3) u (key)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2 OFFSET 0) j))

-- clear_failures(int4, jsonb[]): these keys are fine now; a dead letter that an embed_retry() is taking away just now goes with it
DELETE FROM embed.failure WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM pg_catalog.unnest($2) u (key)
    CROSS JOIN LATERAL (SELECT f.ctid FROM embed.failure f WHERE f.generation = $1 AND f.key = u.key FOR UPDATE SKIP LOCKED) f
    WHERE EXISTS (SELECT FROM embed.failure f WHERE f.generation = $1)))

-- reschedule(int4, int8, jsonb[], text[], float8[], int4[], text[], int4[]): failed jobs wait; the last are the attempts they have
-- now, the scope of the message, and the most texts that the next request with them may hold
UPDATE embed.job j
SET token = NULL, ready_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => w.seconds),
    last_error = CASE WHEN w.scope = 'rest' AND j.error_scope = 'service' THEN j.last_error ELSE w.message END,
    error_scope = CASE WHEN w.scope = 'rest' AND j.error_scope = 'service' THEN j.error_scope ELSE w.scope END, attempts = w.attempts,
    max_batch = coalesce(w.max_batch, j.max_batch)
FROM (SELECT j.ctid, u.* FROM unnest($3, $4, $5, $6, $7, $8) u (key, message, seconds, attempts, scope, max_batch)
      CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                          OFFSET 0) j OFFSET 0) w
WHERE j.ctid = w.ctid

-- insert_dead_letters(int4, jsonb[], text[], text[], int4[], timestamptz[]): dead letters
INSERT INTO embed.failure (generation, key, class, message, attempts, first_at, last_at, unserved_since)
SELECT $1, u.key, u.class, u.message, u.attempts, pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp(), u.unserved_since
FROM unnest($2, $3, $4, $5, $6) u (key, class, message, attempts, unserved_since)
ON CONFLICT (generation, key) DO UPDATE
SET class = EXCLUDED.class, message = EXCLUDED.message, attempts = EXCLUDED.attempts, last_at = EXCLUDED.last_at,
    unserved_since = least(embed.failure.unserved_since, EXCLUDED.unserved_since)

-- again(int4, int4[]): rows of these generations that wait after an error, into the change log
INSERT INTO embed.change_log (pipeline, key, recheck)
SELECT DISTINCT $1, j.key, true FROM embed.job j
WHERE j.generation = ANY ($2) AND j.token IS NULL AND (j.last_error IS NOT NULL OR j.ready_at > pg_catalog.clock_timestamp())

-- next_token(int4): a token that was never used, the time, and the round of the cursor over the stored documents
-- No role can know it before and hold its lock, or a live worker would look dead. random() would not do: an owner's code
-- that ran in this session may have called setseed().
SELECT (pg_catalog.nextval('embed.token') << 24)
       | (pg_catalog.hashtextextended(pg_catalog.gen_random_uuid()::text, 0) & 16777215) AS token,
       pg_catalog.clock_timestamp()::pg_catalog.text AS at,
       (SELECT s.round FROM embed.backfill_cursor s WHERE s.generation = $1 AND s.scope = 'document') AS round

-- abandoned_tokens(int4, int8[]): claims whose time is up or whose worker is gone; $2 are our own
-- That a job's own time is up is not enough: it may have been given another one, if setting "lease" was changed just then.
-- A worker holds a session advisory lock on its token.
SELECT coalesce(pg_catalog.array_agg(l.token), '{}') AS tokens
FROM embed.lease l
WHERE l.generation = $1 AND l.token <> ALL ($2)
  AND (l.expires_at <= pg_catalog.clock_timestamp() OR embed.is_abandoned(l.token, l.expires_at))

-- hold_token(int4): this session has the claim
SELECT pg_catalog.pg_try_advisory_lock({lock_claim}, $1)

-- free_token(int4): this session gives the claim up; runs with the caller's search_path, so there is no operator in it
SELECT pg_catalog.pg_advisory_unlock({lock_claim}, $1)

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
UPDATE embed.in_flight SET expires_at = (SELECT embed.lease_end($2))
WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM pg_catalog.unnest($3) u (hash)
    CROSS JOIN LATERAL (SELECT i.ctid FROM embed.in_flight i WHERE i.model = $1 AND i.hash = u.hash AND i.token = $2
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
DELETE FROM embed.in_flight WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM embed.in_flight i
    WHERE i.expires_at < pg_catalog.clock_timestamp()
       OR NOT EXISTS (SELECT FROM embed.lease l WHERE l.token = i.token)
    FOR UPDATE SKIP LOCKED))

-- drop_dead_handed(): texts handed out of claims that nobody remembers. One step in the index a claim.
WITH RECURSIVE given (token) AS (
    (SELECT h.token FROM embed.claimed_text h ORDER BY h.token LIMIT 1)
    UNION ALL
    SELECT (SELECT h.token FROM embed.claimed_text h WHERE h.token > g.token ORDER BY h.token LIMIT 1)
    FROM given g WHERE g.token IS NOT NULL)
DELETE FROM embed.claimed_text WHERE ctid = ANY (ARRAY(
    SELECT h.ctid FROM given g JOIN embed.claimed_text h ON h.token = g.token
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
    (SELECT c.pipeline FROM embed.change_log c ORDER BY c.pipeline LIMIT 1)
    UNION ALL
    SELECT (SELECT c.pipeline FROM embed.change_log c WHERE c.pipeline > l.pipeline ORDER BY c.pipeline LIMIT 1)
    FROM logged l WHERE l.pipeline IS NOT NULL)
DELETE FROM embed.change_log WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM logged l JOIN embed.change_log c ON c.pipeline = l.pipeline
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

-- release_jobs(int4, int8, jsonb[], float8, text, text): claimed jobs that are not worked on now; the last two: why, where that is an error.
-- What a row failed with the last time it was tried stands until it is tried again.
UPDATE embed.job
SET token = NULL, ready_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $4),
    last_error = CASE WHEN $5 IS NULL AND error_scope = 'row' THEN last_error ELSE $5 END,
    error_scope = CASE WHEN $5 IS NOT NULL THEN $6 WHEN error_scope = 'row' THEN error_scope END
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
    WHERE p.id = ANY ($1) AND p.state = 'active' AND p.broken_reason IS NULL AND (embed.missing_part(p.id)).what IS NULL)
SELECT EXISTS (SELECT FROM working p JOIN embed.change_log c ON c.pipeline = p.id
               WHERE c.key IS NULL OR pg_catalog.pg_column_size(c.key) <= {max_key_bytes})
    OR EXISTS (SELECT FROM working p WHERE embed.is_restored(p.id))
    OR EXISTS (SELECT FROM working p JOIN embed.generation g ON g.pipeline = p.id JOIN embed.backfill_cursor s ON s.generation = g.id
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

-- lock_cursor(int4, text): the cursor, if it runs and nobody moves it. NO KEY, here and below: see hold_round in apply/write.sql
SELECT s.position::pg_catalog.text AS position FROM embed.backfill_cursor s
WHERE s.generation = $1 AND s.scope = $2 AND s.running FOR NO KEY UPDATE SKIP LOCKED

-- wait(int4, text): as lock, behind whoever moves it
SELECT s.position::pg_catalog.text AS position FROM embed.backfill_cursor s
WHERE s.generation = $1 AND s.scope = $2 AND s.running FOR NO KEY UPDATE

-- move(int4, text, jsonb, bool, int8): where it stands now, so many keys further; it stops at the end
-- Moves are at most half a minute apart while somebody works (model/quota.py): a longer time is one in which nobody did.
UPDATE embed.backfill_cursor s
SET position = $3, running = $4, last_error = NULL, walked = s.walked + $5, moved_at = pg_catalog.clock_timestamp(),
    worked = s.worked + least(pg_catalog.clock_timestamp() - coalesce(s.moved_at, s.started_at), '1 minute')
WHERE s.generation = $1 AND s.scope = $2

-- look(int4, text): where the cursor stands, if it runs
SELECT s.position::pg_catalog.text AS position, s.round FROM embed.backfill_cursor s
WHERE s.generation = $1 AND s.scope = $2 AND s.running

-- move_from(int4, text, jsonb, bool, int8, jsonb, int8): as move, if it still stands where it stood ($6) in this round
UPDATE embed.backfill_cursor s
SET position = $3, running = $4, last_error = NULL, walked = s.walked + $5, moved_at = pg_catalog.clock_timestamp(),
    worked = s.worked + least(pg_catalog.clock_timestamp() - coalesce(s.moved_at, s.started_at), '1 minute')
WHERE s.ctid = ANY (ARRAY(SELECT o.ctid FROM embed.backfill_cursor o
                          WHERE o.generation = $1 AND o.scope = $2 AND o.running AND o.position IS NOT DISTINCT FROM $6
                            AND o.round = $7
                          FOR NO KEY UPDATE SKIP LOCKED))

-- not_embedded(int4, jsonb[]): of these keys, those without a document
SELECT u.key::pg_catalog.text AS key FROM unnest($2) WITH ORDINALITY u (key, ord)
WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.key = u.key)
ORDER BY u.ord

-- fail(int4, text, text): why it does not move on
UPDATE embed.backfill_cursor SET last_error = $3
WHERE ctid = ANY (ARRAY(SELECT s.ctid FROM embed.backfill_cursor s WHERE s.generation = $1 AND s.scope = $2 FOR NO KEY UPDATE SKIP LOCKED))

-- stored_keys(int4, jsonb, int4): documents in key order
SELECT d.key::pg_catalog.text AS key FROM embed.document d
WHERE d.generation = $1 AND ($2 IS NULL OR d.key > $2) ORDER BY d.key LIMIT $3

-- queue_claimed(int4, jsonb[], int8): jobs of the backfill lane that are claimed from the start
INSERT INTO embed.job (generation, key, lane, token, ready_at)
SELECT $1, k.key, 1, $3, (SELECT embed.lease_end($3))
FROM pg_catalog.unnest($2) k (key)
WHERE pg_catalog.pg_column_size(k.key) <= {max_key_bytes}
ON CONFLICT DO NOTHING
RETURNING key::pg_catalog.text AS key, lane, changes, attempts, changed_at::pg_catalog.text AS changed_at,
          unserved_since::pg_catalog.text AS unserved_since

-- insert_scans(int4, bool): the cursors of a generation; the backfill starts at once
INSERT INTO embed.backfill_cursor (generation, scope, running, started_at)
SELECT $1, s.scope, s.running, CASE WHEN s.running THEN pg_catalog.clock_timestamp() END
FROM (VALUES ('source', $2), ('document', false)) s (scope, running)

-- lock_change_log(int4): one worker folds a pipeline's log at a time; the others have better things to do
SELECT i.floor::pg_catalog.text AS floor FROM embed.change_log_state i WHERE i.pipeline = $1 FOR UPDATE SKIP LOCKED

-- floor(int4): where the log starts, for one who keeps no lock
SELECT i.floor::pg_catalog.text AS floor FROM embed.change_log_state i WHERE i.pipeline = $1

-- fold(int4, xid8, int4, jsonb[], xid8[], int4): log rows become jobs of every generation in the statement that deletes them
-- Generations are looked up in that statement, too: one that was begun between a look before and this snapshot may have
-- read the row before the change that is deleted here.
-- The choice bounds the rows, or names the keys. A key longer than an index entry takes stays in the log, where
-- embed_status finds it. It is planned when the log is short, and the plan kept for when it is long: 11 s for 30,000 rows. So
-- no two sets of rows are joined by key, which may be comparing each with each; and no table is read from end to end for each
-- row, as is best while it has a page (see db.planning). A key whose job row is locked by a worker stays in the log for the next pass. Job rows are looked up one by one
-- (LATERAL): a hash join would read the whole job table for a handful of keys. changed_at may be older than need be (of another key
-- that is bumped with it), never newer: embed_wait relies on that, and exactly it would cost a join with the job table. The same
-- holds for unserved_since, which leaves out rows that did not change. $6: the lane of changes that came in bulk.
WITH live AS MATERIALIZED (
    SELECT g.id FROM embed.generation g WHERE g.pipeline = $1
), taken AS MATERIALIZED (
    SELECT c.ctid, c.xid, c.key, c.changed_at, c.bulk, c.recheck
    FROM embed.change_log c
    WHERE c.key IS NOT NULL AND pg_catalog.pg_column_size(c.key) <= {max_key_bytes} {choice}
    FOR UPDATE SKIP LOCKED
), sized AS (
    SELECT t.ctid, t.key, t.changed_at, t.recheck, coalesce(t.bulk, count(*) OVER (PARTITION BY t.xid) > 1000) AS is_bulk FROM taken t
), keys AS MATERIALIZED (
    SELECT s.key, pg_catalog.array_agg(s.ctid) AS rows, min(s.changed_at) AS changed_at,
           min(s.changed_at) FILTER (WHERE s.recheck IS NOT TRUE) AS since, CASE WHEN bool_and(s.is_bulk) THEN $6 ELSE 0 END::int2 AS lane
    FROM sized s GROUP BY s.key
), wanted AS MATERIALIZED (
    SELECT g.id AS generation, k.key, k.changed_at, k.since, k.lane, e.found
    FROM keys k
    CROSS JOIN live g
    LEFT JOIN LATERAL (SELECT true AS found FROM embed.job j WHERE j.generation = g.id AND j.key = k.key OFFSET 0) e ON true
), held AS MATERIALIZED (
    SELECT j.ctid, w.lane, w.changed_at, w.since
    FROM wanted w
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = w.generation AND j.key = w.key
                        FOR UPDATE SKIP LOCKED) j
    WHERE w.found
), bumped AS (
    UPDATE embed.job j
    SET changes = j.changes + 1, attempts = 0, changed_at = least(j.changed_at, (SELECT min(h.changed_at) FROM held h)),
        last_error = NULL, error_scope = NULL, unserved_since = least(j.unserved_since, CASE WHEN j.ctid IN (SELECT h.ctid FROM held h WHERE h.since IS NOT NULL)
                                                      THEN (SELECT min(h.since) FROM held h) END),
        lane = CASE WHEN j.ctid IN (SELECT h.ctid FROM held h WHERE h.lane = 0) THEN 0::int2 ELSE j.lane END,
        ready_at = CASE WHEN j.token IS NULL THEN pg_catalog.clock_timestamp() ELSE j.ready_at END
    WHERE j.ctid = ANY (ARRAY(SELECT h.ctid FROM held h))
    RETURNING j.key
), added AS (
    INSERT INTO embed.job (generation, key, lane, changed_at, unserved_since)
    SELECT w.generation, w.key, w.lane, w.changed_at, w.since FROM wanted w WHERE w.found IS NULL
    ON CONFLICT DO NOTHING
    RETURNING key
), done AS (
    SELECT pg_catalog.array_agg(x.rows) FILTER (WHERE x.rows IS NOT NULL) AS rows
    FROM (SELECT b.key, NULL::tid[] AS rows FROM bumped b UNION ALL SELECT a.key, NULL FROM added a
          UNION ALL SELECT k.key, k.rows FROM keys k) x
    GROUP BY x.key HAVING count(*) > 1 AND count(*) = 1 + (SELECT count(*) FROM live)
), gone AS (
    DELETE FROM embed.change_log c
    WHERE c.ctid = ANY (ARRAY(SELECT r.row FROM done d CROSS JOIN LATERAL pg_catalog.unnest(d.rows) r (row)))
    RETURNING c.pipeline
)
SELECT (SELECT count(*) FROM added) AS added, (SELECT count(*) FROM gone) AS folded,
       (SELECT count(*) FROM taken) AS taken

-- by_rows(): the oldest rows
AND c.pipeline = $1 AND c.xid >= $2 ORDER BY c.xid LIMIT $3

-- by_keys(): what there is of these keys
AND c.pipeline = $1 AND c.xid >= $2 AND c.key = ANY ($4)

-- by_news(): what was not to be seen before: of transactions from $2 on, and of those ($5) that were open then
-- The pipeline stands in the two arrays alone: beside them, a plan made for a short log would read all of it by its index, and
-- look for each row among theirs.
AND c.ctid = ANY (ARRAY(SELECT n.ctid FROM embed.change_log n WHERE n.pipeline = $1 AND n.xid >= $2 ORDER BY n.xid LIMIT $3)
                  || ARRAY(SELECT n.ctid FROM pg_catalog.unnest($5) o (xid)
                           CROSS JOIN LATERAL (SELECT i.ctid FROM embed.change_log i
                                               WHERE i.pipeline = $1 AND i.xid = o.xid OFFSET 0) n LIMIT $3))

-- waiting_keys(int4, xid8, int4): the keys that wait longest
SELECT k.key::pg_catalog.text AS key
FROM (SELECT DISTINCT c.key FROM (SELECT c.key FROM embed.change_log c
                                  WHERE c.pipeline = $1 AND c.xid >= $2 AND c.key IS NOT NULL ORDER BY c.xid LIMIT $3) c) k

-- fold_scopes(int4, xid8, int4, jsonb[], xid8[]): TRUNCATE, ATTACH and the like restart the cursors
WITH live AS MATERIALIZED (
    SELECT g.id FROM embed.generation g WHERE g.pipeline = $1
), taken AS MATERIALIZED (
    SELECT c.ctid, c.scope FROM embed.change_log c
    WHERE c.key IS NULL {choice}
    FOR UPDATE SKIP LOCKED
), held AS MATERIALIZED (
    SELECT s.generation, s.scope FROM embed.backfill_cursor s
    WHERE s.generation IN (SELECT l.id FROM live l) AND EXISTS (SELECT FROM taken)
    FOR UPDATE SKIP LOCKED
), started AS (
    UPDATE embed.backfill_cursor s
    SET running = true, position = NULL, round = s.round + 1, started_at = pg_catalog.clock_timestamp(),
        walked = 0, worked = '0', moved_at = NULL
    FROM held h
    WHERE s.generation = h.generation AND s.scope = h.scope
      AND (s.scope = 'document' OR EXISTS (SELECT FROM taken t WHERE t.scope = 'source'))
)
DELETE FROM embed.change_log c USING taken t
WHERE c.ctid = t.ctid AND (SELECT count(*) FROM held) = 2 * (SELECT count(*) FROM live)

-- raise_floor(int4): nothing below the oldest row left, or the oldest running transaction, can appear any more
UPDATE embed.change_log_state i SET floor = f.floor
FROM (SELECT least(pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()),
                   (SELECT c.xid FROM embed.change_log c, embed.change_log_state n
                    WHERE n.pipeline = $1 AND c.pipeline = $1 AND c.xid >= n.floor ORDER BY c.xid LIMIT 1)) AS floor) f
WHERE i.pipeline = $1 AND i.floor < f.floor

-- snapshot(): what can be seen now
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text

-- insert_missing_change_log_states(): the row that coalescing locks
INSERT INTO embed.change_log_state (pipeline)
SELECT p.id FROM embed.pipeline p WHERE NOT EXISTS (SELECT FROM embed.change_log_state i WHERE i.pipeline = p.id)
ON CONFLICT DO NOTHING

-- make_missing_scans(): the cursors; all rows and documents are looked at
INSERT INTO embed.backfill_cursor (generation, scope, running, started_at)
SELECT g.id, s.scope, true, pg_catalog.clock_timestamp()
FROM embed.generation g CROSS JOIN (VALUES ('source'), ('document')) s (scope)
WHERE NOT EXISTS (SELECT FROM embed.backfill_cursor n WHERE n.generation = g.id AND n.scope = s.scope)
ON CONFLICT DO NOTHING

-- log_scope(int4, text): check every document, or every source row too
INSERT INTO embed.change_log (pipeline, scope) VALUES ($1, $2)

-- insert_change_log_state(int4): the row that coalescing locks
INSERT INTO embed.change_log_state (pipeline) VALUES ($1)

-- log_keys(int4, jsonb[]): keys that are queued already are looked at again after whoever has them; they did not change
INSERT INTO embed.change_log (pipeline, key, recheck) SELECT $1, k.key, true FROM pg_catalog.unnest($2) k (key)
