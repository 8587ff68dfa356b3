-- full_name(text): of a text search configuration; an error if there is none
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.cfgname) AS name
FROM pg_catalog.pg_ts_config c JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace
WHERE c.oid = $1::pg_catalog.regconfig

-- every(): those that come with Postgres
SELECT c.cfgname::text AS name FROM pg_catalog.pg_ts_config c
WHERE c.cfgnamespace = 'pg_catalog'::pg_catalog.regnamespace ORDER BY c.cfgname
