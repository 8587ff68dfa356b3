-- extension(): pg_cron's version here, if it is here
SELECT e.extversion AS version, pg_catalog.current_setting('cron.database_name', true) AS home,
       pg_catalog.current_database()::text AS here,
       pg_catalog.current_setting('shared_preload_libraries') ~ '(^|[ ,"/])pg_cron' AS preloaded
FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'pg_cron'

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

-- is_scheduled(text[]): is one of these jobs there, and active
SELECT EXISTS (SELECT FROM cron.job j WHERE j.active AND j.jobname = ANY ($1) AND j.database = pg_catalog.current_database())
