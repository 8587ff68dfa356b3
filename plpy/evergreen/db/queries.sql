-- lease(): how many seconds a claim lasts
SELECT pg_catalog.date_part('epoch', embed.lease_end() - pg_catalog.clock_timestamp())

-- grantees(text, text): roles other than the owner with a privilege on an object, quoted
SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS name
FROM (SELECT p.proowner AS owner, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)) AS acl
      FROM pg_catalog.pg_proc p WHERE $1 = 'FUNCTION' AND p.oid = pg_catalog.to_regprocedure($2)
      UNION ALL
      SELECT c.relowner, c.relacl FROM pg_catalog.pg_class c
      WHERE $1 IN ('TABLE', 'SEQUENCE') AND c.oid = pg_catalog.to_regclass($2)
      UNION ALL
      SELECT n.nspowner, n.nspacl FROM pg_catalog.pg_namespace n
      WHERE $1 = 'SCHEMA' AND n.oid = pg_catalog.to_regnamespace($2)) o
CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
WHERE a.grantee <> o.owner

-- revoke(): revokes all privileges on an object
REVOKE ALL ON {kind} {name} FROM {grantee} CASCADE

-- name(int4): name of a pipeline
SELECT p.name FROM embed.pipeline p WHERE p.id = $1

-- settings(): logging settings: current values, and values while a line is written.
-- Only a superuser may change the server's own; if the extension's owner is not one, the line includes a context.
SELECT s.name, pg_catalog.current_setting(s.name) AS value, s.alone
FROM (VALUES ('client_min_messages', 'error', false), ('log_error_verbosity', 'terse', true),
             ('log_min_error_statement', 'panic', true)) s (name, alone, is_servers)
WHERE NOT s.is_servers OR (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)

-- set(text[], text[]): sets settings for this transaction
SELECT pg_catalog.set_config(s.name, s.value, true) FROM unnest($1, $2) s (name, value)

-- lock_timeout(text): how long the next statements of this step may wait for a lock
SELECT pg_catalog.set_config('lock_timeout', $1, true)

-- relation_oid(text): oid of a relation by its quoted, qualified name; NULL if it does not exist
SELECT pg_catalog.to_regclass($1)::oid::bigint

-- isolation(): the isolation level of this transaction
SELECT pg_catalog.current_setting('transaction_isolation')

-- state(): advisory locks, prepared statements and cursors of this session
SELECT embed.session_state()

-- restore(text[]): undoes everything that is not in this state
SELECT embed.restore_session($1)

-- limits(): seconds left for this statement and this transaction; NULL if nothing limits them, or the session's own SET does
WITH setting AS (
    SELECT (SELECT pg_catalog.date_part('epoch', pg_catalog.current_setting('statement_timeout')::interval)
            WHERE pg_catalog.current_setting('statement_timeout') <> '0'
              AND (SELECT s.source FROM pg_catalog.pg_settings s WHERE s.name = 'statement_timeout') <> 'session') AS statement,
           (SELECT pg_catalog.date_part('epoch', pg_catalog.current_setting('transaction_timeout', true)::interval)
            WHERE pg_catalog.current_setting('transaction_timeout', true) <> '0') AS transaction
)
SELECT statement - pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp()) AS statement_left,
       statement + pg_catalog.date_part('epoch', pg_catalog.statement_timestamp()) AS due_at,
       transaction - pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.transaction_timestamp()) AS transaction_left
FROM setting

-- snapshot(): the current snapshot
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text
