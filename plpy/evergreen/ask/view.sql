-- view(oid): the view, if it is still ours
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1 AND c.relkind = 'v'
  AND c.relowner = (SELECT e.extowner FROM pg_catalog.pg_extension e WHERE e.extname = 'evergreen')

-- shows_another(): a view's generation is a constant in it, so this is decided without reading, unless it is true
SELECT EXISTS (SELECT FROM {view} v WHERE v.generation OPERATOR(pg_catalog.<>) {generation}) AS another

-- snapshot_is_kept(): from REPEATABLE READ on
SELECT pg_catalog.current_setting('transaction_isolation') NOT LIKE 'read %' AS kept

-- view_columns(oid): a view's columns in order
SELECT a.attname::text AS name FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 ORDER BY a.attnum
