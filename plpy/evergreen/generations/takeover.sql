-- exists(text): is this table there
SELECT pg_catalog.to_regclass($1) IS NOT NULL

-- mark(): conflicts with nothing but another session that drops the same
LOCK TABLE {tables} IN ROW SHARE MODE

-- lock(): from here on nobody reads or writes it
LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE

-- end_builds(text[]): whoever builds an index on these tables is a worker of ours, or a job that one has scheduled
SELECT pg_catalog.pg_cancel_backend(p.pid)
FROM pg_catalog.pg_stat_progress_create_index p JOIN pg_catalog.pg_stat_activity a ON a.pid = p.pid
WHERE p.relid = ANY (ARRAY(SELECT pg_catalog.to_regclass(t.name)::pg_catalog.oid FROM pg_catalog.unnest($1) t (name)))
  AND (pg_catalog.pg_has_role(current_user, a.usesysid, 'MEMBER') OR pg_catalog.pg_has_role(current_user, 'pg_signal_backend', 'MEMBER'))

-- holders(text[]): who has a lock on these tables; an autovacuum gives way to whoever waits
SELECT DISTINCT l.pid, a.usename::text AS usename, a.application_name,
       a.backend_type = 'autovacuum worker' OR p.pid IS NOT NULL
           OR (a.state = 'active' AND a.query ~* 'embed_(work|drain|claim|submit|release) *[(]') AS ours
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_stat_progress_create_index p ON p.pid = l.pid
WHERE l.granted AND l.pid <> pg_catalog.pg_backend_pid()
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
  AND l.relation = ANY (ARRAY(SELECT pg_catalog.to_regclass(t.name)::pg_catalog.oid FROM pg_catalog.unnest($1) t (name)))
ORDER BY l.pid
