-- may_use_pg_cron(): whether the calling role may use pg_cron
SELECT pg_catalog.has_schema_privilege('cron', 'USAGE')

-- schedule(text, text, text): creates a job of the calling role (name, schedule, command); replaces one of the same name
SELECT cron.schedule($1, $2, $3)

-- scheduled_jobs(text[]): the jobs of this database with one of these names
SELECT j.jobid, j.jobname FROM cron.job j WHERE j.jobname = ANY ($1) AND j.database = pg_catalog.current_database()

-- unschedule(int8): removes a job
SELECT cron.unschedule($1)

-- worker_limits(): settings that limit the number of workers
SELECT pg_catalog.current_setting('shared_preload_libraries') ~ '(^|[ ,"/])pg_cron' AS preloaded,
       pg_catalog.current_setting('cron.launch_active_jobs', true)::bool AS launches,
       pg_catalog.current_setting('cron.use_background_workers', true)::bool AS in_background,
       pg_catalog.current_setting('cron.max_running_jobs', true)::int AS most,
       pg_catalog.current_setting('max_worker_processes')::int AS processes,
       pg_catalog.current_setting('max_connections')::int
           - pg_catalog.current_setting('superuser_reserved_connections')::int AS connections,
       pg_catalog.current_setting('cron.host', true) AS host,
       pg_catalog.current_setting('listen_addresses') <> '' AS listens

-- authentication(text, bool): the method of the first line of pg_hba.conf for the sessions of a role ($1) in this database,
-- by the socket ($2) or from 127.0.0.1; no row for a role that may not read the lines. Groups, patterns and host names in
-- them are not followed.
SELECT r.auth_method AS method, r.line_number AS line, coalesce(r.options, '{}') AS options
FROM pg_catalog.pg_hba_file_rules() WITH ORDINALITY AS r
WHERE r.error IS NULL AND (r.type = 'local') = $2
  AND r.database && ARRAY['all', pg_catalog.current_database()::text] AND r.user_name && ARRAY['all', $1]
  AND (r.type = 'local' OR r.address IN ('all', 'samehost', 'samenet', 'localhost')
       OR CASE WHEN r.address ~ '^[0-9.]+$' AND r.netmask IS NOT NULL
               THEN r.address::inet & r.netmask::inet = '127.0.0.1'::inet & r.netmask::inet ELSE false END)
ORDER BY r.ordinality LIMIT 1

-- may_read_hba(): whether the lines of pg_hba.conf can be read
SELECT pg_catalog.has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')

-- count_other_workers(text[]): workers scheduled in any database, without the jobs of these names, which are about to be replaced.
-- Runs with the extension's privileges: a role sees only its own jobs.
SELECT count(*) FROM cron.job j
WHERE j.active AND j.command ~ '^CALL .*embed_work[(]' AND NOT (j.jobname = ANY ($1) AND j.database = pg_catalog.current_database())

-- unschedule_index_jobs(text, text): without a scheduled worker, nothing removes these jobs once the index exists.
-- $1: the beginning of their names; $2: the pattern of the workers' names
SELECT cron.unschedule(c.jobid) FROM cron.job c
WHERE c.database = pg_catalog.current_database() AND pg_catalog.starts_with(c.jobname, $1)
  AND NOT EXISTS (SELECT FROM cron.job j WHERE j.database = pg_catalog.current_database() AND j.jobname ~ $2)

-- running_workers(): sessions that work in this database, or wait for work
SELECT a.pid FROM pg_catalog.pg_stat_activity a
WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
  AND (a.state = 'active' AND a.query ~* 'embed_work *[(]' OR a.application_name = 'evergreen worker')
ORDER BY a.pid

-- unschedule_cleanup(text, text): removes the cleanup job once no worker is scheduled; $2: the pattern of the workers' names
SELECT cron.unschedule(h.jobid) FROM cron.job h
WHERE h.jobname = $1
  AND NOT EXISTS (SELECT FROM cron.job j WHERE j.database = pg_catalog.current_database() AND j.jobname ~ $2)

-- insert_external_lease(int8, int4, text, int8): makes the claim visible to other sessions; each renewal lasts $3; $4: the epoch of
-- the model's watch
INSERT INTO embed.lease (token, generation, expires_at, external_interval, epoch)
VALUES ($1, $2, pg_catalog.clock_timestamp() + $3::pg_catalog.interval, $3::pg_catalog.interval, $4)

-- count_lost_claims(int4): external claims that expired with texts still out, once each, with the rows of those texts
WITH lost AS MATERIALIZED (
    SELECT l.ctid FROM embed.lease l
    WHERE l.generation = $1 AND l.external_interval IS NOT NULL AND NOT l.counted AND l.expires_at <= pg_catalog.clock_timestamp()
      AND EXISTS (SELECT FROM embed.claimed_text h WHERE h.token = l.token AND NOT h.received)
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE embed.lease l SET counted = true WHERE l.ctid = ANY (ARRAY(SELECT o.ctid FROM lost o))
RETURNING l.token,
          ARRAY(SELECT DISTINCT h.key FROM embed.claimed_text h WHERE h.token = l.token AND NOT h.received)::pg_catalog.text[] AS keys

-- lock_lease(int8): locks the claim until the transaction ends; is_old: whether a third of its time has passed
SELECT l.generation, l.external_interval IS NOT NULL AS is_external, l.epoch,
       l.expires_at < pg_catalog.clock_timestamp() + l.external_interval * 2 / 3 AS is_old
FROM embed.lease l WHERE l.token = $1 FOR NO KEY UPDATE

-- generation_exists(int4): whether this generation exists, in any pipeline
SELECT EXISTS (SELECT FROM embed.generation g WHERE g.id = $1) AS found

-- is_token_issued(int8): whether this token was ever issued
SELECT $1 >> 24 BETWEEN 1 AND t.last_value AS is_issued FROM embed.token t

-- insert_claimed_texts(int8, bytea[], jsonb[], int4[]): claimed texts, the rows that need them, and their tokens
INSERT INTO embed.claimed_text (token, hash, key, tokens, received) SELECT $1, u.hash, u.key, u.tokens, u.hash = '' FROM unnest($2, $3, $4) u (hash, key, tokens)

-- keys_still_claimed(int4, jsonb[], int8): those of these keys that the claim still holds
SELECT j.key::pg_catalog.text AS key FROM pg_catalog.unnest($2) u (key)
CROSS JOIN LATERAL (SELECT j.key FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $3 OFFSET 0) j

-- claimed_texts(int8, bytea[]): claimed texts with these hashes
SELECT h.hash, pg_catalog.array_agg(h.key::pg_catalog.text) AS keys, min(h.tokens) AS tokens, bool_and(h.received) AS received
FROM embed.claimed_text h WHERE h.token = $1 AND h.hash = ANY ($2) AND h.hash <> '' GROUP BY h.hash

-- open_texts(int8): texts whose vectors have not been submitted
SELECT h.hash, pg_catalog.array_agg(h.key::pg_catalog.text) AS keys, min(h.tokens) AS tokens
FROM embed.claimed_text h WHERE h.token = $1 AND NOT h.received GROUP BY h.hash

-- has_open_texts(int8): whether a vector is still missing
SELECT EXISTS (SELECT FROM embed.claimed_text h WHERE h.token = $1 AND NOT h.received) AS found

-- has_unfinished_jobs(int8, int4): whether the claim has rows that could not be finished because another session had them locked
SELECT EXISTS (SELECT FROM embed.claimed_text h JOIN embed.job j ON j.generation = $2 AND j.key = h.key AND j.token = $1
               WHERE h.token = $1) AS found

-- mark_received(int8, bytea[]): marks vectors as submitted
UPDATE embed.claimed_text SET received = true WHERE token = $1 AND hash = ANY ($2) AND NOT received

-- delete_claimed_texts(int8, bytea[]): removes released texts from the claim
DELETE FROM embed.claimed_text WHERE token = $1 AND hash = ANY ($2)

-- expire_lease(int8): ends the claim's lease
UPDATE embed.lease SET expires_at = pg_catalog.clock_timestamp() WHERE token = $1

-- delete_claim(int8): the claim is finished
WITH texts AS (DELETE FROM embed.claimed_text WHERE token = $1)
DELETE FROM embed.lease WHERE token = $1

-- time_and_round(int4): the time, and the round of the cursor over the stored documents
SELECT pg_catalog.clock_timestamp()::pg_catalog.text AS at,
       (SELECT s.round FROM embed.backfill_cursor s WHERE s.generation = $1 AND s.scope = 'document') AS round

-- differing_settings(text[], text[]): settings of this server that differ from the required values; runs with the caller's search_path
SELECT n.name, pg_catalog.current_setting(n.name, true) AS value
FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) n (name, needed)
WHERE pg_catalog.current_setting(n.name, true) OPERATOR(pg_catalog.<>) n.needed

-- set_for_session(text[], text[]): sets settings for this session, from its next transaction on
SELECT pg_catalog.set_config(n.name, n.value, false) FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) n (name, value)

-- is_standby(): whether writing is impossible here, whatever the settings
SELECT pg_catalog.pg_is_in_recovery()

-- try_sleep_lock(): takes the sleepers' lock, if no writer and no other worker holds it; see extension/sql/31_queue/2_functions.sql
SELECT pg_catalog.pg_try_advisory_lock({lock_sleeper}, 0)

-- is_sleep_lock_free(): whether no other session holds the lock exclusively; shared, so that writers can take it meanwhile
SELECT pg_catalog.pg_try_advisory_xact_lock_shared({lock_sleeper}, 0)

-- holds_sleep_lock(): whether this session still holds it
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l
               WHERE l.locktype = 'advisory' AND l.classid = {lock_sleeper}::oid AND l.objid = 0::oid
                 AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid = pg_catalog.pg_backend_pid())

-- release_sleep_lock(): releases the lock: a worker is awake
SELECT pg_catalog.pg_advisory_unlock({lock_sleeper}, 0)

-- is_sleep_announced(float8): whether a worker has announced that it sleeps for at least this many seconds
SELECT s.last_value > 1000 * (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) + $1) FROM embed.sleeper_until s

-- announce_sleep(float8): a worker sleeps for at most this many seconds
SELECT pg_catalog.setval('embed.sleeper_until', (1000 * (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) + $1))::int8)

-- pass_snapshot(): snapshot that the next pass will see, and whether this session may continue
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text AS seen,
       pg_catalog.pg_try_advisory_xact_lock_shared({lock_stop}, pg_catalog.pg_backend_pid()) AS undisturbed

-- is_stop_requested(): whether the session that asks this one to stop is a worker: any role can take the lock
SELECT embed.held_by_worker({lock_stop}, pg_catalog.pg_backend_pid())

-- notify_peers(): there is more work than one worker takes
SELECT pg_catalog.pg_notify('evergreen_backlog', '')

-- take_slot(int4): one session at a time works in a slot
SELECT pg_catalog.pg_try_advisory_lock({lock_slot}, $1)

-- slot_is_taken(int4): whether a worker holds the slot: any role can take the lock
SELECT embed.held_by_worker({lock_slot}, $1)

-- release_all_locks(): releases every claim and slot of this session, even if a cancel interrupted it, and the sleepers' lock.
-- Runs with the caller's search_path, so every name is qualified.
SELECT pg_catalog.pg_advisory_unlock(l.classid::pg_catalog.int4, l.objid::pg_catalog.int4)
FROM pg_catalog.pg_locks l
WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory'::pg_catalog.text
  AND (l.classid OPERATOR(pg_catalog.=) {lock_claim}::pg_catalog.oid OR l.classid OPERATOR(pg_catalog.=) {lock_slot}::pg_catalog.oid
       OR l.classid OPERATOR(pg_catalog.=) {lock_sleeper}::pg_catalog.oid)
  AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'::pg_catalog.text
  AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.granted
