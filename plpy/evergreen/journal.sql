-- name(int4): of a pipeline
SELECT p.name FROM embed.pipeline p WHERE p.id = $1

-- settings(): of logging, as they are, and as they are to be while a line is written; those of the server only a superuser
-- may set, and where the extension's owner is none the line has a context
SELECT s.name, pg_catalog.current_setting(s.name) AS value, s.alone
FROM (VALUES ('client_min_messages', 'error', false), ('log_error_verbosity', 'terse', true),
             ('log_min_error_statement', 'panic', true)) s (name, alone, is_servers)
WHERE NOT s.is_servers OR (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)

-- set(text[], text[]): settings
SELECT pg_catalog.set_config(s.name, s.value, true) FROM unnest($1, $2) s (name, value)
