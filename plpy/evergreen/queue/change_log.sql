-- lock_change_log(int4): one worker coalesces a pipeline's log at a time; others skip it
SELECT i.scan_start::pg_catalog.text AS scan_start FROM embed.change_log_state i WHERE i.pipeline = $1 FOR UPDATE SKIP LOCKED

-- read_scan_start(int4): where the log starts, without a lock
SELECT i.scan_start::pg_catalog.text AS scan_start FROM embed.change_log_state i WHERE i.pipeline = $1

-- coalesce(int4, xid8, int4, jsonb[], xid8[], int4): log rows become jobs of every generation in the statement that deletes them.
-- It also looks up the generations: one started between an earlier look-up and this snapshot may have read the row before the
-- change that is deleted here.
-- The condition limits the rows, or names the keys. Keys longer than an index entry stay in the log, where embed_status finds
-- them; so do keys whose job row a worker has locked, until the next pass.
-- The plan is made when the log is short and kept when it is long: 11 s for 30,000 rows. So no two row sets are joined by key,
-- which may compare each row with each, and no table is read in full for each row, which is the best plan while it has one page
-- (see db/planner.py). Job rows are looked up one by one (LATERAL): a hash join would read the whole job table for a few keys.
-- changed_at may be older than necessary (taken from another key bumped in the same statement), never newer: embed_wait relies
-- on that, and an exact value would cost a join with the job table. The same holds for unserved_since, which leaves out rows
-- that did not change. $6: the lane of bulk changes.
WITH generations AS MATERIALIZED (
    SELECT g.id FROM embed.generation g WHERE g.pipeline = $1
), taken AS MATERIALIZED (
    SELECT c.ctid, c.xid, c.key, c.changed_at, c.bulk, c.recheck, c.dependency
    FROM embed.change_log c
    WHERE c.key IS NOT NULL AND pg_catalog.pg_column_size(c.key) <= {max_key_bytes} {condition}
    FOR UPDATE SKIP LOCKED
), sized AS (
    SELECT t.ctid, t.key, t.changed_at, t.recheck, t.dependency, coalesce(t.bulk, count(*) OVER (PARTITION BY t.xid) > {bulk_changes}) AS is_bulk FROM taken t
), keys AS MATERIALIZED (
    SELECT s.key, pg_catalog.array_agg(s.ctid) AS rows, min(s.changed_at) AS changed_at,
           min(s.changed_at) FILTER (WHERE s.recheck IS NOT TRUE) AS since, CASE WHEN bool_and(s.is_bulk) THEN $6 ELSE 0 END::int2 AS lane,
           min(s.dependency) AS dependency
    FROM sized s GROUP BY s.key
), wanted AS MATERIALIZED (
    SELECT g.id AS generation, k.key, k.changed_at, k.since, k.lane, k.dependency, e.found
    FROM keys k
    CROSS JOIN generations g
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
    INSERT INTO embed.job (generation, key, lane, changed_at, unserved_since, dependency)
    SELECT w.generation, w.key, w.lane, w.changed_at, w.since, w.dependency FROM wanted w WHERE w.found IS NULL
    ON CONFLICT DO NOTHING
    RETURNING key
), done AS (
    SELECT pg_catalog.array_agg(x.rows) FILTER (WHERE x.rows IS NOT NULL) AS rows
    FROM (SELECT b.key, NULL::tid[] AS rows FROM bumped b UNION ALL SELECT a.key, NULL FROM added a
          UNION ALL SELECT k.key, k.rows FROM keys k) x
    GROUP BY x.key HAVING count(*) > 1 AND count(*) = 1 + (SELECT count(*) FROM generations)
), gone AS (
    DELETE FROM embed.change_log c
    WHERE c.ctid = ANY (ARRAY(SELECT r.row FROM done d CROSS JOIN LATERAL pg_catalog.unnest(d.rows) r (row)))
    RETURNING c.pipeline
)
SELECT (SELECT count(*) FROM added) AS added, (SELECT count(*) FROM gone) AS folded,
       (SELECT count(*) FROM taken) AS taken

-- oldest_rows(): the oldest rows
AND c.pipeline = $1 AND c.xid >= $2 ORDER BY c.xid LIMIT $3

-- rows_of_keys(): rows of these keys
AND c.pipeline = $1 AND c.xid >= $2 AND c.key = ANY ($4)

-- new_rows(): rows that were not visible before: from transactions since $2, and from those ($5) that were open then.
-- The pipeline is only in the two arrays: outside them, a plan made for a short log would read all of it by its index and look
-- for each row in the arrays.
AND c.ctid = ANY (ARRAY(SELECT n.ctid FROM embed.change_log n WHERE n.pipeline = $1 AND n.xid >= $2 ORDER BY n.xid LIMIT $3)
                  || ARRAY(SELECT n.ctid FROM pg_catalog.unnest($5) o (xid)
                           CROSS JOIN LATERAL (SELECT i.ctid FROM embed.change_log i
                                               WHERE i.pipeline = $1 AND i.xid = o.xid OFFSET 0) n LIMIT $3))

-- oldest_keys(int4, xid8, int4): the keys that have waited longest
SELECT k.key::pg_catalog.text AS key
FROM (SELECT DISTINCT c.key FROM (SELECT c.key FROM embed.change_log c
                                  WHERE c.pipeline = $1 AND c.xid >= $2 AND c.key IS NOT NULL ORDER BY c.xid LIMIT $3) c) k

-- coalesce_scopes(int4, xid8, int4, jsonb[], xid8[]): TRUNCATE, ATTACH and similar commands restart the cursors
WITH generations AS MATERIALIZED (
    SELECT g.id FROM embed.generation g WHERE g.pipeline = $1
), taken AS MATERIALIZED (
    SELECT c.ctid, c.scope FROM embed.change_log c
    WHERE c.key IS NULL AND c.scope IS NOT NULL {condition}
    FOR UPDATE SKIP LOCKED
), held AS MATERIALIZED (
    SELECT s.generation, s.scope FROM embed.backfill_cursor s
    WHERE s.generation IN (SELECT l.id FROM generations l) AND EXISTS (SELECT FROM taken)
    FOR UPDATE SKIP LOCKED
), started AS (
    UPDATE embed.backfill_cursor s
    SET running = true, position = NULL, round = s.round + 1, started_at = pg_catalog.clock_timestamp(),
        visited = 0, active_time = '0', moved_at = NULL
    FROM held h
    WHERE s.generation = h.generation AND s.scope = h.scope
      AND (s.scope = 'document' OR EXISTS (SELECT FROM taken t WHERE t.scope = 'source'))
)
DELETE FROM embed.change_log c USING taken t
WHERE c.ctid = t.ctid AND (SELECT count(*) FROM held) = 2 * (SELECT count(*) FROM generations)

-- advance_scan_start(int4): nothing can appear below both the oldest remaining row and the oldest running transaction
UPDATE embed.change_log_state i SET scan_start = f.scan_start
FROM (SELECT least(pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()),
                   (SELECT c.xid FROM embed.change_log c, embed.change_log_state n
                    WHERE n.pipeline = $1 AND c.pipeline = $1 AND c.xid >= n.scan_start ORDER BY c.xid LIMIT 1)) AS scan_start) f
WHERE i.pipeline = $1 AND i.scan_start < f.scan_start

-- insert_missing_change_log_states(): the row that coalescing locks
INSERT INTO embed.change_log_state (pipeline)
SELECT p.id FROM embed.pipeline p WHERE NOT EXISTS (SELECT FROM embed.change_log_state i WHERE i.pipeline = p.id)
ON CONFLICT DO NOTHING

-- insert_missing_cursors(): the cursors; all rows and documents are checked
INSERT INTO embed.backfill_cursor (generation, scope, running, started_at)
SELECT g.id, s.scope, true, pg_catalog.clock_timestamp()
FROM embed.generation g CROSS JOIN (VALUES ('source'), ('document')) s (scope)
WHERE NOT EXISTS (SELECT FROM embed.backfill_cursor n WHERE n.generation = g.id AND n.scope = s.scope)
ON CONFLICT DO NOTHING

-- log_scope(int4, text): queues a check of every document, or of every source row as well
INSERT INTO embed.change_log (pipeline, scope) VALUES ($1, $2)

-- insert_change_log_state(int4): the row that coalescing locks
INSERT INTO embed.change_log_state (pipeline) VALUES ($1)

-- log_keys(int4, jsonb[]): queued keys are checked again after the current claim; they did not change
INSERT INTO embed.change_log (pipeline, key, recheck) SELECT $1, k.key, true FROM pg_catalog.unnest($2) k (key)

-- touch_keys(int4, jsonb[], bool): queues keys to be checked; the first wakes a sleeping worker, as the capture function does
INSERT INTO embed.change_log (pipeline, key, wake)
SELECT $1, k.key, CASE WHEN k.ord = 1 AND $3 AND NOT pg_catalog.pg_try_advisory_xact_lock_shared({lock_sleeper}, 0) THEN true END
FROM pg_catalog.unnest($2) WITH ORDINALITY k (key, ord)

-- reset_scan_start(int4): transaction ids of another server mean nothing here, nor does what it logged
UPDATE embed.change_log_state SET scan_start = '0', late_since = NULL WHERE pipeline = $1

-- delete_change_log(int4): deletes the change log of a pipeline, and its state
WITH changes AS (DELETE FROM embed.change_log WHERE pipeline = $1)
DELETE FROM embed.change_log_state WHERE pipeline = $1

-- log_keys_from_wal(int4, jsonb): keys to check; each is an array: microseconds since 2000, whether the transaction was a bulk change,
-- values
INSERT INTO embed.change_log (pipeline, key, changed_at, bulk)
SELECT $1, {key}, '2000-01-01 00:00:00+00'::timestamptz + (e ->> 0)::pg_catalog.int8 * '1 microsecond'::interval,
       (e ->> 1)::pg_catalog.bool
FROM pg_catalog.jsonb_array_elements($2) e
