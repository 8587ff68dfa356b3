-- survey(): what there is to do about the WAL
SELECT (SELECT count(*) FROM embed.pipeline p
        WHERE p.capture = 'cdc' AND NOT EXISTS (SELECT FROM embed.wal w WHERE w.pipeline = p.id)) AS new,
       count(*) FILTER (WHERE w.state = 'wanted') AS wanted,
       count(*) FILTER (WHERE w.state IN ('joining', 'settling', 'leaving')) AS moving,
       count(*) FILTER (WHERE w.state = 'unable') AS unable,
       count(*) FILTER (WHERE w.state = 'reading') AS reading,
       EXISTS (SELECT FROM embed.wal_position) AS has_slot,
       (SELECT a.last_value FROM embed.wal_awaited a)
           > (SELECT pg_catalog.pg_wal_lsn_diff(max(r.lsn), '0/0') FROM embed.wal_position r WHERE r.slot = embed.slot_name()) AS awaited
FROM embed.wal w

-- is_needed(): does anybody read the WAL, or is to
SELECT EXISTS (SELECT FROM embed.wal w WHERE w.state <> 'unable') OR EXISTS (SELECT FROM embed.pipeline p WHERE p.capture = 'cdc')

-- adopt(): pipelines that came with a restore; those that were dropped are forgotten
WITH gone AS (DELETE FROM embed.wal w WHERE NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = w.pipeline))
INSERT INTO embed.wal (pipeline, state) SELECT p.id, 'wanted' FROM embed.pipeline p
WHERE p.capture = 'cdc' AND NOT EXISTS (SELECT FROM embed.wal w WHERE w.pipeline = p.id)
ON CONFLICT DO NOTHING

-- lose(text): nothing was captured since who knows when: all of it is looked at again, once the WAL is read anew
WITH left_out AS (DELETE FROM embed.wal WHERE state = 'leaving' RETURNING pipeline),
     checked AS (INSERT INTO embed.change (pipeline, scope) SELECT l.pipeline, 'source' FROM left_out l)
UPDATE embed.wal SET state = 'wanted', checks = true, horizon = NULL, position = NULL, note = $1
WHERE state <> 'unable' AND state <> 'leaving'

-- of_state(text): pipelines in a state
SELECT w.pipeline FROM embed.wal w WHERE w.state = $1

-- hold(int4, text): one that is still in that state, unless somebody is changing that just now
SELECT w.checks FROM embed.wal w WHERE w.pipeline = $1 AND w.state = $2 FOR UPDATE SKIP LOCKED

-- set_joining(int4): the table is in the publication when this is committed
UPDATE embed.wal SET state = 'joining', horizon = NULL, position = NULL WHERE pipeline = $1

-- set_unable(int4, text): triggers capture
UPDATE embed.wal SET state = 'unable', triggers = true, checks = true, note = $2 WHERE pipeline = $1

-- set_wanted(int4): its replica identity does again; triggers capture until it is read
UPDATE embed.wal SET state = 'wanted', note = NULL WHERE pipeline = $1

-- set_note(text): why it takes so long
UPDATE embed.wal SET note = $1
WHERE pipeline = ANY (ARRAY(SELECT w.pipeline FROM embed.wal w
                            WHERE w.state IN ('wanted', 'joining', 'settling') AND w.note IS DISTINCT FROM $1
                            FOR UPDATE SKIP LOCKED))

-- set_checked(int4): since now all is captured, and all is being checked
UPDATE embed.wal SET checks = false WHERE pipeline = $1

-- mark_horizon(): whoever goes on from before a table was in the publication has a lower number
UPDATE embed.wal SET horizon = pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
WHERE pipeline = ANY (ARRAY(SELECT w.pipeline FROM embed.wal w
                            WHERE w.state = 'joining' AND w.horizon IS NULL FOR UPDATE SKIP LOCKED))

-- settle(): those have ended; what they wrote lies before this position, where no reading is to begin (before 15.13 it
-- took the table for one that is not published, to its end)
UPDATE embed.wal SET state = 'settling', position = pg_catalog.pg_current_wal_insert_lsn()
WHERE pipeline = ANY (ARRAY(SELECT w.pipeline FROM embed.wal w
                            WHERE w.state = 'joining'
                              AND w.horizon <= pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())
                            FOR UPDATE SKIP LOCKED))

-- settled(text): read so far
SELECT w.pipeline FROM embed.wal w WHERE w.state = 'settling' AND w.position <= $1::pg_catalog.pg_lsn

-- checks(int4): has nobody captured until now
SELECT w.checks FROM embed.wal w WHERE w.pipeline = $1 AND w.state = 'settling' FOR UPDATE

-- set_reading(int4, int8[]): nothing else captures
UPDATE embed.wal SET state = 'reading', triggers = false, checks = false, horizon = NULL, position = NULL,
                     leaves = $2::pg_catalog.oid[]
WHERE pipeline = $1 AND state = 'settling'

-- leave(text): read to the end
DELETE FROM embed.wal WHERE pipeline = ANY (ARRAY(
    SELECT w.pipeline FROM embed.wal w WHERE w.state = 'leaving' AND w.position <= $1::pg_catalog.pg_lsn FOR UPDATE SKIP LOCKED))

-- strangers(): pipelines whose partitions are not those that were looked at last
SELECT w.pipeline FROM embed.wal w JOIN embed.pipeline p ON p.id = w.pipeline
WHERE w.state = 'reading' AND w.leaves <> ARRAY(
    SELECT t.relid FROM embed.partition_tree(p.source) t (relid) ORDER BY t.relid)

-- short_locks(): of DDL on a table whose writers are not to be held up
SELECT pg_catalog.set_config('lock_timeout', '50ms', true)
