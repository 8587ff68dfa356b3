-- lock(int4): one worker folds a pipeline's log at a time; the others have better things to do
SELECT i.floor::pg_catalog.text AS floor FROM embed.intake i WHERE i.pipeline = $1 FOR UPDATE SKIP LOCKED

-- floor(int4): where the log starts, for one who keeps no lock
SELECT i.floor::pg_catalog.text AS floor FROM embed.intake i WHERE i.pipeline = $1

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
    FROM embed.change c
    WHERE c.key IS NOT NULL AND pg_catalog.pg_column_size(c.key) <= 2600 {choice}
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
    DELETE FROM embed.change c
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
AND c.ctid = ANY (ARRAY(SELECT n.ctid FROM embed.change n WHERE n.pipeline = $1 AND n.xid >= $2 ORDER BY n.xid LIMIT $3)
                  || ARRAY(SELECT n.ctid FROM pg_catalog.unnest($5) o (xid)
                           CROSS JOIN LATERAL (SELECT i.ctid FROM embed.change i
                                               WHERE i.pipeline = $1 AND i.xid = o.xid OFFSET 0) n LIMIT $3))

-- waiting_keys(int4, xid8, int4): the keys that wait longest
SELECT k.key::pg_catalog.text AS key
FROM (SELECT DISTINCT c.key FROM (SELECT c.key FROM embed.change c
                                  WHERE c.pipeline = $1 AND c.xid >= $2 AND c.key IS NOT NULL ORDER BY c.xid LIMIT $3) c) k

-- fold_scopes(int4, xid8, int4, jsonb[], xid8[]): TRUNCATE, ATTACH and the like restart the cursors
WITH live AS MATERIALIZED (
    SELECT g.id FROM embed.generation g WHERE g.pipeline = $1
), taken AS MATERIALIZED (
    SELECT c.ctid, c.scope FROM embed.change c
    WHERE c.key IS NULL {choice}
    FOR UPDATE SKIP LOCKED
), held AS MATERIALIZED (
    SELECT s.generation, s.scope FROM embed.scan s
    WHERE s.generation IN (SELECT l.id FROM live l) AND EXISTS (SELECT FROM taken)
    FOR UPDATE SKIP LOCKED
), started AS (
    UPDATE embed.scan s
    SET running = true, position = NULL, round = s.round + 1, started_at = pg_catalog.clock_timestamp(),
        walked = 0, worked = '0', moved_at = NULL
    FROM held h
    WHERE s.generation = h.generation AND s.scope = h.scope
      AND (s.scope = 'document' OR EXISTS (SELECT FROM taken t WHERE t.scope = 'source'))
)
DELETE FROM embed.change c USING taken t
WHERE c.ctid = t.ctid AND (SELECT count(*) FROM held) = 2 * (SELECT count(*) FROM live)

-- raise_floor(int4): nothing below the oldest row left, or the oldest running transaction, can appear any more
UPDATE embed.intake i SET floor = f.floor
FROM (SELECT least(pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()),
                   (SELECT c.xid FROM embed.change c, embed.intake n
                    WHERE n.pipeline = $1 AND c.pipeline = $1 AND c.xid >= n.floor ORDER BY c.xid LIMIT 1)) AS floor) f
WHERE i.pipeline = $1 AND i.floor < f.floor

-- snapshot(): what can be seen now
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text

-- make_missing_intake(): the row that intake locks
INSERT INTO embed.intake (pipeline)
SELECT p.id FROM embed.pipeline p WHERE NOT EXISTS (SELECT FROM embed.intake i WHERE i.pipeline = p.id)
ON CONFLICT DO NOTHING

-- make_missing_scans(): the cursors; all rows and documents are looked at
INSERT INTO embed.scan (generation, scope, running, started_at)
SELECT g.id, s.scope, true, pg_catalog.clock_timestamp()
FROM embed.generation g CROSS JOIN (VALUES ('source'), ('document')) s (scope)
WHERE NOT EXISTS (SELECT FROM embed.scan n WHERE n.generation = g.id AND n.scope = s.scope)
ON CONFLICT DO NOTHING

-- log_scope(int4, text): check every document, or every source row too
INSERT INTO embed.change (pipeline, scope) VALUES ($1, $2)

-- insert_intake(int4): the row that intake locks
INSERT INTO embed.intake (pipeline) VALUES ($1)

-- log_keys(int4, jsonb[]): keys that are queued already are looked at again after whoever has them; they did not change
INSERT INTO embed.change (pipeline, key, recheck) SELECT $1, k.key, true FROM pg_catalog.unnest($2) k (key)
