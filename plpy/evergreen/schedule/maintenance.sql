-- failed(): tasks that failed the last time, and whether it is too early to try again
SELECT e.task, e.pipeline, e.generation, e.retry_at > pg_catalog.clock_timestamp() AS waits FROM embed.maintenance_error e

-- short_locks(): maintenance does not wait for anybody
SELECT pg_catalog.set_config('lock_timeout', '50ms', true)

-- record(text, int4, int4, text, text, float8, float8, float8): a failure; $6: the first pause in seconds, $7: the
-- shortest for what took so long, $8: the longest. Returns the pause.
INSERT INTO embed.maintenance_error AS e (task, pipeline, generation, sqlstate, message, retry_at)
VALUES ($1, $2, $3, $4, $5, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => least($8, greatest($6, $7))))
ON CONFLICT ON CONSTRAINT maintenance_error_pkey DO UPDATE
SET failures = e.failures + 1, sqlstate = EXCLUDED.sqlstate, message = EXCLUDED.message, last_at = pg_catalog.clock_timestamp(),
    retry_at = pg_catalog.clock_timestamp()
               + pg_catalog.make_interval(secs => least($8, greatest($6 * pg_catalog.power(2, least(e.failures, 20)), $7)))
RETURNING pg_catalog.date_part('epoch', retry_at - last_at) AS pause

-- clear(text, int4, int4): it works again; returns the error that it had
DELETE FROM embed.maintenance_error WHERE task = $1 AND pipeline = $2 AND generation = $3 RETURNING sqlstate

-- forget_old(): what was to be tried again and was not, because there is nothing left to do
DELETE FROM embed.maintenance_error WHERE ctid = ANY (ARRAY(
    SELECT e.ctid FROM embed.maintenance_error e
    WHERE e.retry_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(mins => 2)
       OR (e.pipeline <> 0 AND NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = e.pipeline))
    FOR UPDATE SKIP LOCKED))

-- is_awaited(text): does another session want this table for itself, see generations/takeover.sql
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l
               JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
               WHERE (l.mode = 'RowShareLock' OR NOT l.granted AND l.mode = 'AccessExclusiveLock') AND l.relation = pg_catalog.to_regclass($1)
                 AND l.pid <> pg_catalog.pg_backend_pid())
