-- extension(): pg_cron's version here, if it is here
SELECT e.extversion AS version, pg_catalog.current_setting('cron.database_name', true) AS home,
       pg_catalog.current_database()::text AS here,
       pg_catalog.current_setting('shared_preload_libraries') ~ '(^|[ ,"/])pg_cron' AS preloaded
FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'pg_cron'

-- schedule(text, text): a job of the calling role, every minute
SELECT cron.schedule($1, '* * * * *', $2)

-- jobs(text[]): the jobs of this database with one of these names
SELECT j.jobid, j.jobname FROM cron.job j WHERE j.jobname = ANY ($1) AND j.database = pg_catalog.current_database()

-- unschedule(int8): away with it
SELECT cron.unschedule($1)
