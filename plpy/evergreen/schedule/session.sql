-- differing(text[], text[]): settings, where this server has them, whose value is another. These run with the caller's search_path.
SELECT n.name, pg_catalog.current_setting(n.name, true) AS value
FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) n (name, needed)
WHERE pg_catalog.current_setting(n.name, true) OPERATOR(pg_catalog.<>) n.needed

-- set(text[], text[]): for this session, from its next transaction on
SELECT pg_catalog.set_config(n.name, n.value, false) FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) n (name, value)

-- is_standby(): can nothing be written here, whatever is set
SELECT pg_catalog.pg_is_in_recovery()
