-- start(int4, jsonb): the moment of the call; is something of ours in it, so that nobody else sees it yet; are cursors under
-- way, or about to be
SELECT pg_catalog.clock_timestamp()::pg_catalog.text AS now,
       EXISTS (SELECT FROM embed.change c
               WHERE c.pipeline = $1 AND c.xid = pg_catalog.pg_current_xact_id_if_assigned()
                 AND ($2 IS NULL OR c.key IS NULL OR c.key = $2))
    OR EXISTS (SELECT FROM embed.generation g CROSS JOIN (VALUES (0), (1)) lanes (lane)
               JOIN embed.job j ON j.generation = g.id AND j.lane = lanes.lane AND j.lane IN (0, 1)
                AND j.xid = pg_catalog.pg_current_xact_id_if_assigned()
               WHERE g.pipeline = $1 AND g.state = 'active' AND ($2 IS NULL OR j.key = $2)) AS own,
       EXISTS (SELECT FROM embed.change c WHERE c.pipeline = $1 AND c.key IS NULL)
    OR EXISTS (SELECT FROM embed.generation g JOIN embed.scan s ON s.generation = g.id
               WHERE g.pipeline = $1 AND g.state = 'active' AND s.running) AS sweeping,
       -- A place in the WAL behind all that was committed, where its changes are read there; long enough to be noted.
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() AND EXISTS (SELECT FROM embed.wal v WHERE v.pipeline = $1)
            THEN pg_catalog.pg_logical_emit_message(false, 'evergreen', pg_catalog.repeat(' ', 1100)) END::text AS lsn

-- look(int4, jsonb, timestamptz, bool, text): all in one snapshot, in which a change is in the log, in a job, or done. $3: the moment
-- of the call; changed_at of a job is never later than a change that is still to be done.
SELECT p.state <> 'active' OR p.broken_reason IS NOT NULL AS stopped,
       EXISTS (SELECT FROM embed.change c
               WHERE c.pipeline = p.id AND c.changed_at <= $3 AND ($2 IS NULL OR c.key IS NULL OR c.key = $2))
    OR CASE WHEN $2 IS NULL
            THEN EXISTS (SELECT FROM embed.job j WHERE j.generation = g.id AND (j.changed_at <= $3 OR ($4 AND j.lane = 1)))
            ELSE EXISTS (SELECT FROM embed.job j WHERE j.generation = g.id AND j.key = $2 AND j.changed_at <= $3) END
    OR EXISTS (SELECT FROM embed.wal v
               WHERE v.pipeline = p.id AND NOT v.triggers AND v.state <> 'unable'
                 AND (v.state IN ('wanted', 'joining', 'settling')
                      OR coalesce((SELECT max(r.lsn) FROM embed.wal_position r WHERE r.slot = embed.slot_name()) < $5::pg_catalog.pg_lsn, false)))
       AS waits,
       EXISTS (SELECT FROM embed.failure f
               WHERE f.generation = g.id AND ($2 IS NULL OR f.key = $2)
                 AND NOT EXISTS (SELECT FROM embed.job j WHERE j.generation = g.id AND j.key = f.key)
                 AND NOT EXISTS (SELECT FROM embed.change c WHERE c.pipeline = p.id AND c.key = f.key)) AS dead,
       EXISTS (SELECT FROM embed.scan s WHERE s.generation = g.id AND s.running) AS swept,
       d.src_hash, coalesce(d.embedded_at > $3, false) AS embedded_since
FROM embed.pipeline p
JOIN embed.generation g ON g.pipeline = p.id AND g.state = 'active'
LEFT JOIN embed.document d ON d.generation = g.id AND d.key = $2
WHERE p.id = $1
