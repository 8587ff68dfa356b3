-- check_interval(text): raises if the text is not an interval; false if it is negative
SELECT $1::pg_catalog.interval >= '0'

-- full_name(text): qualified name of a text search configuration; raises if it does not exist
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.cfgname) AS name
FROM pg_catalog.pg_ts_config c JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace
WHERE c.oid = $1::pg_catalog.regconfig

-- server_language(): default_text_search_config of the server, from its configuration files if this session has another
SELECT coalesce(
    (SELECT s.setting FROM pg_catalog.pg_settings s
     WHERE s.name = 'default_text_search_config' AND s.source IN ('default', 'configuration file', 'command line')),
    (SELECT f.setting FROM pg_catalog.pg_file_settings f
     WHERE f.name = 'default_text_search_config' AND f.error IS NULL ORDER BY f.seqno DESC LIMIT 1),
    'pg_catalog.simple')

-- default_language(text): the qualified name of the database's default; $1: that of the server
SELECT coalesce(
    (SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.cfgname)
     FROM pg_catalog.pg_ts_config c JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace
     WHERE d.name IN (pg_catalog.quote_ident(c.cfgname), c.cfgname::pg_catalog.text,
                      pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.cfgname))
     ORDER BY n.nspname <> 'pg_catalog', c.oid LIMIT 1),
    'pg_catalog.simple') AS name
FROM (SELECT coalesce(
          (SELECT pg_catalog.substr(o.setting, pg_catalog.strpos(o.setting, '=') + 1)
           FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) o (setting)
           WHERE s.setrole = 0
             AND s.setdatabase = (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database())
             AND pg_catalog.starts_with(o.setting, 'default_text_search_config=')),
          $1) AS name) d

-- every(): the configurations that come with PostgreSQL
SELECT c.cfgname::text AS name FROM pg_catalog.pg_ts_config c
WHERE c.cfgnamespace = 'pg_catalog'::pg_catalog.regnamespace ORDER BY c.cfgname

-- find_model(text, int4): a model, its endpoint and the revision that is served, by name or id; marking: revisions of which some
-- vectors are still to be marked
SELECT m.id, m.name, m.provider, m.remote_name, m.dimensions, m.options::text AS options,
       m.endpoint AS wants_endpoint, e.name AS endpoint, e.id AS endpoint_id, e.url, e.secret, e.options::text AS endpoint_options,
       coalesce(w.revision, 1) AS revision, CASE WHEN w.settled THEN w.revision WHEN w.model IS NULL THEN 1 END AS served,
       coalesce(w.epoch, 0) AS epoch,
       CASE WHEN w.model IS NOT NULL THEN ARRAY(SELECT s.revision FROM embed.model_sweep s WHERE s.model = m.id) END AS marking
FROM embed.model m LEFT JOIN embed.endpoint e ON e.name = m.endpoint LEFT JOIN embed.model_watch w ON w.model = m.id
WHERE m.name = $1 OR m.id = $2

-- transaction_id(): gives the transaction an id, before a statement whose snapshot has to be later than it
SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text

-- served_epoch(int4): how often what is served under a model's name has changed
SELECT coalesce((SELECT w.epoch FROM embed.model_watch w WHERE w.model = $1), 0)

-- vector_type(): schema of pgvector's type, quoted
SELECT pg_catalog.quote_ident(n.nspname) AS schema
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'

-- find_pipeline(text, int4): one pipeline, by name or id
SELECT p.id, p.name, p.source::bigint AS source, p.key_names::text[] AS key_names, p.key_attnums::int[] AS key_attnums,
       p.key_types, p.only_if::text AS only_if, p.only_if_attnum, p.capture,
       p.capture = 'trigger' OR coalesce(w.triggers, false) AS triggers, p.state, p.broken_reason, p.bound_name,
       p.source_name AS recorded_name,
       p.view::bigint AS view, p.options::text AS options, p.system_identifier, p.database_oid::bigint AS database_oid,
       p.source_oid::bigint AS source_oid, c.relowner::bigint AS owner, t.what AS missing_part, t.remedy,
       embed.qualified_name(p.source) AS source_name, p.definition
FROM embed.pipeline p
LEFT JOIN embed.wal w ON w.pipeline = p.id
LEFT JOIN pg_catalog.pg_class c ON c.oid = p.source
LEFT JOIN LATERAL embed.missing_part(p.id) t ON true
WHERE p.name = $1 OR p.id = $2

-- missing_part(): pipelines that refer to missing rows
SELECT p.name, t.what, t.remedy FROM embed.pipeline p CROSS JOIN LATERAL embed.missing_part(p.id) t WHERE t.what IS NOT NULL

-- record_names(): current names of sources and views
SELECT embed.record_names()

-- all_ids(): every pipeline
SELECT p.id FROM embed.pipeline p ORDER BY p.id

-- generations(int4): generations of a pipeline: the active one, then the others by the time they entered their state
SELECT g.id, g.pipeline, g.model, g.model_revision, g.columns::text[] AS columns, g.template, g.chunker::text AS chunker,
       g.watched_names::text[] AS watched_names, g.watched_attnums::int[] AS watched_attnums, g.state,
       g.options::text AS options
FROM embed.generation g WHERE g.pipeline = $1
ORDER BY g.state = 'active' DESC, g.since DESC, g.id DESC

-- links(int4): tables under a pipeline's view
SELECT d.id, d.part, d.base::bigint AS base, d.base_name, d.names::text[] AS names, d.attnums::int[] AS attnums,
       d.view_names::text[] AS view_names, d.view_attnums::int[] AS view_attnums, d.via_part,
       d.via_names::text[] AS via_names, d.via_attnums::int[] AS via_attnums, d.is_key,
       d.watched_names::text[] AS watched_names, d.watched_attnums::int[] AS watched_attnums
FROM embed.dependency d WHERE d.pipeline = $1 ORDER BY d.part, d.id

-- is_owner(text, int8): whether a role may administer what another role owns
SELECT pg_catalog.pg_has_role($1, 'embed_admin', 'USAGE')
    OR coalesce((SELECT pg_catalog.pg_has_role($1, r.oid, 'USAGE') FROM pg_catalog.pg_roles r WHERE r.oid = $2::pg_catalog.oid), false)

-- is_admin(text): whether a role may administer everything
SELECT pg_catalog.pg_has_role($1, 'embed_admin', 'USAGE')

-- is_member(text, text): whether a role has another role's privileges
SELECT pg_catalog.pg_has_role($1, $2, 'USAGE')

-- may_trigger(text, oid): whether a role may create triggers on a table
SELECT coalesce(pg_catalog.has_table_privilege($1, $2, 'TRIGGER'), false)

-- may_read(text, oid): whether a role may select from a table
SELECT coalesce(pg_catalog.has_table_privilege($1, $2, 'SELECT') OR pg_catalog.has_any_column_privilege($1, $2, 'SELECT'), false)

-- seconds(text): an interval in seconds
SELECT pg_catalog.date_part('epoch', $1::pg_catalog.interval)

-- extension(): pg_cron's version, if it is installed here
SELECT e.extversion AS version, pg_catalog.current_setting('cron.database_name', true) AS home,
       pg_catalog.current_database()::text AS here,
       pg_catalog.current_setting('shared_preload_libraries') ~ '(^|[ ,"/])pg_cron' AS preloaded
FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'pg_cron'

-- is_scheduled(text[]): whether one of these jobs exists and is active
SELECT EXISTS (SELECT FROM cron.job j WHERE j.active AND j.jobname = ANY ($1) AND j.database = pg_catalog.current_database())

-- failed(): tasks whose last attempt failed, and whether it is too early to retry
SELECT e.task, e.pipeline, e.generation, e.retry_at > pg_catalog.clock_timestamp() AS waits FROM embed.maintenance_error e

-- record(text, int4, int4, text, text, float8, float8, float8): records a failure and returns the pause before a retry. $6:
-- first pause in seconds, $7: shortest after a task that took this long, $8: longest
INSERT INTO embed.maintenance_error AS e (task, pipeline, generation, sqlstate, message, retry_at)
VALUES ($1, $2, $3, $4, $5, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => least($8, greatest($6, $7))))
ON CONFLICT ON CONSTRAINT maintenance_error_pkey DO UPDATE
SET failures = e.failures + 1, sqlstate = EXCLUDED.sqlstate, message = EXCLUDED.message, last_at = pg_catalog.clock_timestamp(),
    retry_at = pg_catalog.clock_timestamp()
               + pg_catalog.make_interval(secs => least($8, greatest($6 * pg_catalog.power(2, least(e.failures, 20)), $7)))
RETURNING pg_catalog.date_part('epoch', retry_at - last_at) AS pause

-- clear(text, int4, int4): removes the error of a task that works again; returns it
DELETE FROM embed.maintenance_error WHERE task = $1 AND pipeline = $2 AND generation = $3 RETURNING sqlstate

-- forget_old(): errors that were due for a retry, but whose task no longer exists
DELETE FROM embed.maintenance_error WHERE ctid = ANY (ARRAY(
    SELECT e.ctid FROM embed.maintenance_error e
    WHERE e.retry_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(mins => 2)
       OR (e.pipeline <> 0 AND NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = e.pipeline))
    FOR UPDATE SKIP LOCKED))

-- is_awaited(text): whether another session wants exclusive use of this table, see lock_for_drop and lock_table in storage/generation_tables.sql
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l
               JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
               WHERE (l.mode = 'RowShareLock' OR NOT l.granted AND l.mode = 'AccessExclusiveLock') AND l.relation = pg_catalog.to_regclass($1)
                 AND l.pid <> pg_catalog.pg_backend_pid())

-- get(text): a setting's stored value
SELECT s.value FROM embed.setting s WHERE s.name = $1
