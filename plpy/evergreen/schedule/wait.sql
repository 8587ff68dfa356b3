-- start(int4, jsonb): the moment of the call, and the end of the WAL then (less a page's header, which may be ahead of it); is something of ours in it, so that nobody else sees it yet; are cursors under
-- way, or about to be
SELECT pg_catalog.clock_timestamp()::pg_catalog.text AS now,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/18')::pg_catalog.int8 END AS wal,
       EXISTS (SELECT FROM embed.change c
               WHERE c.pipeline = $1 AND c.xid = pg_catalog.pg_current_xact_id_if_assigned()
                 AND ($2 IS NULL OR c.key IS NULL OR c.key = $2))
    OR EXISTS (SELECT FROM embed.generation g CROSS JOIN (VALUES (0), (1)) lanes (lane)
               JOIN embed.job j ON j.generation = g.id AND j.lane = lanes.lane AND j.lane IN (0, 1)
                AND j.xid = pg_catalog.pg_current_xact_id_if_assigned()
               WHERE g.pipeline = $1 AND g.state = 'active' AND ($2 IS NULL OR j.key = $2))
    OR EXISTS (SELECT FROM embed.wal w JOIN embed.pipeline p ON p.id = w.pipeline
               CROSS JOIN LATERAL embed.partition_tree(p.source) t (relid)
               JOIN pg_catalog.pg_locks l ON l.relation = t.relid AND l.pid = pg_catalog.pg_backend_pid() AND l.granted
                AND l.mode IN ('RowExclusiveLock', 'AccessExclusiveLock')
               WHERE w.pipeline = $1 AND NOT w.triggers
                 AND pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL) AS own,
       EXISTS (SELECT FROM embed.change c WHERE c.pipeline = $1 AND c.key IS NULL)
    OR EXISTS (SELECT FROM embed.generation g JOIN embed.scan s ON s.generation = g.id
               WHERE g.pipeline = $1 AND g.state = 'active' AND s.running)
    OR EXISTS (SELECT FROM embed.wal w WHERE w.pipeline = $1 AND w.checks) AS sweeping

-- look(int4, jsonb, timestamptz, bool, int8): all in one snapshot, in which a change is in the log, in a job, or done. $3: the moment
-- of the call; changed_at of a job is never later than a change that is still to be done. $5: up to where the WAL must have been
-- read, if changes are read from there. Of a transaction that is read the log and the position are committed together.
SELECT p.state <> 'active' OR p.broken_reason IS NOT NULL AS stopped,
       b.behind,
       b.behind OR embed.lost_documents(p.id, g.id) > 0
    OR EXISTS (SELECT FROM embed.change c
               WHERE c.pipeline = p.id AND c.changed_at <= $3 AND ($2 IS NULL OR c.key IS NULL OR c.key = $2))
    OR CASE WHEN $2 IS NULL
            THEN EXISTS (SELECT FROM embed.job j WHERE j.generation = g.id AND (j.changed_at <= $3 OR ($4 AND j.lane = 1)))
            ELSE EXISTS (SELECT FROM embed.job j WHERE j.generation = g.id AND j.key = $2 AND j.changed_at <= $3) END AS waits,
       EXISTS (SELECT FROM embed.failure f
               WHERE f.generation = g.id AND ($2 IS NULL OR f.key = $2)
                 AND NOT EXISTS (SELECT FROM embed.job j WHERE j.generation = g.id AND j.key = f.key)
                 AND NOT EXISTS (SELECT FROM embed.change c WHERE c.pipeline = p.id AND c.key = f.key)) AS dead,
       EXISTS (SELECT FROM embed.scan s WHERE s.generation = g.id AND s.running) AS swept,
       d.src_hash, coalesce(d.embedded_at > $3, false) AS embedded_since
FROM embed.pipeline p
JOIN embed.generation g ON g.pipeline = p.id AND g.state = 'active'
LEFT JOIN embed.document d ON d.generation = g.id AND d.key = $2
CROSS JOIN LATERAL (
    SELECT (p.capture = 'cdc' AND NOT EXISTS (SELECT FROM embed.wal w WHERE w.pipeline = p.id))
        OR EXISTS (SELECT FROM embed.wal w
                   WHERE w.pipeline = p.id AND NOT w.triggers AND w.state <> 'unable'
                     AND (w.state IN ('wanted', 'joining', 'settling')
                          OR coalesce((SELECT pg_catalog.pg_wal_lsn_diff(max(r.lsn), '0/0') FROM embed.wal_position r
                                       WHERE r.slot = embed.slot_name()), 0) < $5)) AS behind) b
WHERE p.id = $1

-- unfinished(int4, timestamptz, bool): the keys of all rows that wait for what was there at a moment, as look() has it for one, and of dead letters
WITH g AS (SELECT g.id FROM embed.generation g WHERE g.pipeline = $1 AND g.state = 'active'),
waiting AS (
    SELECT c.key FROM embed.change c WHERE c.pipeline = $1 AND c.changed_at <= $2 AND c.key IS NOT NULL
    UNION
    SELECT j.key FROM g JOIN embed.job j ON j.generation = g.id WHERE j.changed_at <= $2 OR ($3 AND j.lane = 1)
)
SELECT w.key::pg_catalog.text AS key, false AS dead FROM waiting w
UNION ALL
SELECT f.key::pg_catalog.text, true FROM g JOIN embed.failure f ON f.generation = g.id
WHERE NOT EXISTS (SELECT FROM embed.job j WHERE j.generation = g.id AND j.key = f.key)
  AND NOT EXISTS (SELECT FROM embed.change c WHERE c.pipeline = $1 AND c.key = f.key)

-- await_wal(int8): whoever reads the WAL notes that he came so far; one of those who wait may take the place of another
SELECT pg_catalog.setval('embed.wal_awaited', $1) FROM embed.wal_awaited a WHERE a.last_value < $1
