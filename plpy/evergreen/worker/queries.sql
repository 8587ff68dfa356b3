-- may_use(): is the calling role granted pg_cron
SELECT pg_catalog.has_schema_privilege('cron', 'USAGE')

-- schedule(text, text, text): a job of the calling role: name, schedule, command; one of this name is replaced
SELECT cron.schedule($1, $2, $3)

-- jobs(text[]): the jobs of this database with one of these names
SELECT j.jobid, j.jobname FROM cron.job j WHERE j.jobname = ANY ($1) AND j.database = pg_catalog.current_database()

-- unschedule(int8): away with it
SELECT cron.unschedule($1)

-- limits(): what may stand in the way of workers
SELECT pg_catalog.current_setting('shared_preload_libraries') ~ '(^|[ ,"/])pg_cron' AS preloaded,
       pg_catalog.current_setting('cron.launch_active_jobs', true)::bool AS launches,
       pg_catalog.current_setting('cron.use_background_workers', true)::bool AS in_background,
       pg_catalog.current_setting('cron.max_running_jobs', true)::int AS most,
       pg_catalog.current_setting('max_worker_processes')::int AS processes,
       pg_catalog.current_setting('max_connections')::int
           - pg_catalog.current_setting('superuser_reserved_connections')::int AS connections,
       pg_catalog.current_setting('cron.host', true) AS host,
       pg_catalog.current_setting('listen_addresses') <> '' AS listens

-- others(text[]): workers that are scheduled in any database; without the jobs of these names, which are to be replaced
-- Runs with the extension's rights: a role sees only its own jobs.
SELECT count(*) FROM cron.job j
WHERE j.active AND j.command ~ '^CALL .*embed_work[(]' AND NOT (j.jobname = ANY ($1) AND j.database = pg_catalog.current_database())

-- unschedule_indexes(): when no worker is scheduled here nobody takes these jobs away once the index is there
SELECT cron.unschedule(c.jobid) FROM cron.job c
WHERE c.database = pg_catalog.current_database()
  AND c.jobname LIKE 'evergreen index ' || pg_catalog.current_database() || ' g%'
  AND NOT EXISTS (SELECT FROM cron.job j WHERE j.database = pg_catalog.current_database() AND j.jobname ~ '^evergreen .*#[0-9]+$')

-- running(): sessions that work in this database, or sleep until there is work
SELECT a.pid FROM pg_catalog.pg_stat_activity a
WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
  AND (a.state = 'active' AND a.query ~* 'embed_work *[(]' OR a.application_name = 'evergreen worker')
ORDER BY a.pid

-- unschedule_house(text): nobody needs it any more
SELECT cron.unschedule(h.jobid) FROM cron.job h
WHERE h.jobname = $1
  AND NOT EXISTS (SELECT FROM cron.job j WHERE j.database = pg_catalog.current_database() AND j.jobname ~ '^evergreen .*#[0-9]+$')

-- put_lease(int8, int4, text): the claim as others see it, good for $3 each time
INSERT INTO embed.lease (token, generation, expires_at, outside)
VALUES ($1, $2, pg_catalog.clock_timestamp() + $3::pg_catalog.interval, $3::pg_catalog.interval)

-- hold_lease(int8): the claim, kept away from others to the end of the transaction; is a third of its time over
SELECT l.generation, l.outside IS NOT NULL AS is_outside,
       l.expires_at < pg_catalog.clock_timestamp() + l.outside * 2 / 3 AS is_old
FROM embed.lease l WHERE l.token = $1 FOR NO KEY UPDATE

-- is_there(int4): is there such a generation, of any pipeline
SELECT EXISTS (SELECT FROM embed.generation g WHERE g.id = $1) AS found

-- was_issued(int8): was there ever such a token
SELECT $1 >> 24 BETWEEN 1 AND t.last_value AS was FROM embed.token t

-- hand(int8, bytea[], jsonb[], int4[]): texts, the rows that need them, and what they cost
INSERT INTO embed.claimed_text (token, hash, key, tokens, received) SELECT $1, u.hash, u.key, u.tokens, u.hash = '' FROM unnest($2, $3, $4) u (hash, key, tokens)

-- left_of(int4, jsonb[], int8): of these keys, those that the claim still has
SELECT j.key::pg_catalog.text AS key FROM pg_catalog.unnest($2) u (key)
CROSS JOIN LATERAL (SELECT j.key FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $3 OFFSET 0) j

-- texts(int8, bytea[]): what was handed out under these hashes
SELECT h.hash, pg_catalog.array_agg(h.key::pg_catalog.text) AS keys, min(h.tokens) AS tokens, bool_and(h.received) AS received
FROM embed.claimed_text h WHERE h.token = $1 AND h.hash = ANY ($2) AND h.hash <> '' GROUP BY h.hash

-- open(int8): texts whose vectors did not come yet
SELECT h.hash, pg_catalog.array_agg(h.key::pg_catalog.text) AS keys, min(h.tokens) AS tokens
FROM embed.claimed_text h WHERE h.token = $1 AND NOT h.received GROUP BY h.hash

-- is_open(int8): is a vector still to come
SELECT EXISTS (SELECT FROM embed.claimed_text h WHERE h.token = $1 AND NOT h.received) AS found

-- has_jobs(int8, int4): has the claim rows that could not be finished, as another session had them locked
SELECT EXISTS (SELECT FROM embed.claimed_text h JOIN embed.job j ON j.generation = $2 AND j.key = h.key AND j.token = $1
               WHERE h.token = $1) AS found

-- arrive(int8, bytea[]): their vectors came
UPDATE embed.claimed_text SET received = true WHERE token = $1 AND hash = ANY ($2) AND NOT received

-- take_back(int8, bytea[]): they are handed out no more
DELETE FROM embed.claimed_text WHERE token = $1 AND hash = ANY ($2)

-- expire(int8): the claim's time is up
UPDATE embed.lease SET expires_at = pg_catalog.clock_timestamp() WHERE token = $1

-- drop(int8): the claim is finished
WITH texts AS (DELETE FROM embed.claimed_text WHERE token = $1)
DELETE FROM embed.lease WHERE token = $1

-- hold_jobs(int4, jsonb[], int8): of these keys, those that the claim has; see lock_jobs in queue/queries.sql
SELECT u.key::pg_catalog.text AS key, j.lane, j.changes, j.attempts, j.changed_at::pg_catalog.text AS changed_at,
       j.unserved_since::pg_catalog.text AS unserved_since
FROM pg_catalog.unnest($2) u (key)
CROSS JOIN LATERAL (SELECT j.lane, j.changes, j.attempts, j.changed_at, j.unserved_since FROM embed.job j
                    WHERE j.generation = $1 AND j.key = u.key AND j.token = $3 FOR UPDATE SKIP LOCKED) j

-- now(int4): the time, and the round of the cursor over the stored documents
SELECT pg_catalog.clock_timestamp()::pg_catalog.text AS at,
       (SELECT s.round FROM embed.backfill_cursor s WHERE s.generation = $1 AND s.scope = 'document') AS round

-- differing(text[], text[]): settings, where this server has them, whose value is another. These run with the caller's search_path.
SELECT n.name, pg_catalog.current_setting(n.name, true) AS value
FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) n (name, needed)
WHERE pg_catalog.current_setting(n.name, true) OPERATOR(pg_catalog.<>) n.needed

-- set(text[], text[]): for this session, from its next transaction on
SELECT pg_catalog.set_config(n.name, n.value, false) FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) n (name, value)

-- is_standby(): can nothing be written here, whatever is set
SELECT pg_catalog.pg_is_in_recovery()

-- try_(): nobody who is writing, and no other worker, has the sleepers' lock; see extension/sql/31_queue/2_functions.sql
SELECT pg_catalog.pg_try_advisory_lock({lock_sleeper}, 0)

-- is_had_by_nobody(): has nobody else the lock for himself alone; shared, so that writers who come meanwhile get it, too
SELECT pg_catalog.pg_try_advisory_xact_lock_shared({lock_sleeper}, 0)

-- is_mine(): does this session have it, from the last time
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l
               WHERE l.locktype = 'advisory' AND l.classid = {lock_sleeper}::oid AND l.objid = 0::oid
                 AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid = pg_catalog.pg_backend_pid())

-- give_up(): somebody is awake
SELECT pg_catalog.pg_advisory_unlock({lock_sleeper}, 0)

-- is_announced(float8): has somebody said to sleep for so many seconds at least
SELECT s.last_value > 1000 * (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) + $1) FROM embed.sleeper_until s

-- announce(float8): a worker will sleep for no longer than so many seconds
SELECT pg_catalog.setval('embed.sleeper_until', (1000 * (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) + $1))::int8)

-- look(): what the transactions are that the pass to come will see, and whether this session may go on
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text AS seen,
       pg_catalog.pg_try_advisory_xact_lock_shared({lock_stop}, pg_catalog.pg_backend_pid()) AS undisturbed

-- is_to_stop(): the one who asks this session to come to an end is a worker, too, and not anybody who likes to sit on locks
SELECT embed.held_by_worker({lock_stop}, pg_catalog.pg_backend_pid())

-- came(int4[], text): was anything committed that the pass did not see: by who came after it, or was at work during it
WITH working AS (
    SELECT p.id FROM embed.pipeline p
    WHERE p.id = ANY ($1) AND p.state = 'active' AND p.broken_reason IS NULL AND (embed.missing_part(p.id)).what IS NULL)
SELECT EXISTS (SELECT FROM working p JOIN embed.change_log c ON c.pipeline = p.id
               WHERE c.xid >= pg_catalog.pg_snapshot_xmax($2::pg_catalog.pg_snapshot))
    OR EXISTS (SELECT FROM working p
               CROSS JOIN LATERAL pg_catalog.pg_snapshot_xip($2::pg_catalog.pg_snapshot) x (xid)
               JOIN embed.change_log c ON c.pipeline = p.id AND c.xid = x.xid)

-- pass_on(): there is more than one worker takes
SELECT pg_catalog.pg_notify('evergreen_backlog', '')

-- take_slot(int4): one session at a time works in a slot
SELECT pg_catalog.pg_try_advisory_lock({lock_slot}, $1)

-- slot_is_taken(int4): by a worker, and not by anybody who likes to sit on locks
SELECT embed.held_by_worker({lock_slot}, $1)

-- release_all_locks(): this session gives up every claim (62) and slot (63) that it has, also one that a cancel came upon, and wakes
-- up (66). Runs with the caller's search_path, so every name is qualified.
SELECT pg_catalog.pg_advisory_unlock(l.classid::pg_catalog.int4, l.objid::pg_catalog.int4)
FROM pg_catalog.pg_locks l
WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory'::pg_catalog.text
  AND (l.classid OPERATOR(pg_catalog.=) {lock_claim}::pg_catalog.oid OR l.classid OPERATOR(pg_catalog.=) {lock_slot}::pg_catalog.oid
       OR l.classid OPERATOR(pg_catalog.=) {lock_sleeper}::pg_catalog.oid)
  AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'::pg_catalog.text
  AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.granted
