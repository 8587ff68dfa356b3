-- set_capture(int4, text): how changes are seen
UPDATE embed.pipeline SET capture = $2 WHERE id = $1

-- want_wal(int4, bool): its changes are to be read from the WAL; what captures until then goes on, else all is checked then
INSERT INTO embed.wal AS w (pipeline, state, triggers, checks) VALUES ($1, 'wanted', $2, NOT $2)
ON CONFLICT (pipeline) DO UPDATE SET state = 'wanted', triggers = $2, checks = NOT $2, horizon = NULL, position = NULL, note = NULL

-- leave_wal(int4): what was committed before now is still to be read; returns whether all of it will be
WITH reading AS (
    UPDATE embed.wal SET state = 'leaving', triggers = false, position = pg_catalog.pg_current_wal_insert_lsn(), note = NULL
    WHERE pipeline = $1 AND state = 'reading' RETURNING true
), others AS (
    DELETE FROM embed.wal WHERE pipeline = $1 AND state <> 'reading' RETURNING triggers AND NOT checks AS captured
)
SELECT EXISTS (SELECT FROM reading) OR coalesce((SELECT o.captured FROM others o), false) AS complete
