-- name_now(int4): the source's name
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM embed.pipeline p JOIN pg_catalog.pg_class c ON c.oid = p.source JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE p.id = $1

-- owner(int4): whose the source is
SELECT pg_catalog.pg_get_userbyid(c.relowner)::text AS owner FROM embed.pipeline p JOIN pg_catalog.pg_class c ON c.oid = p.source
WHERE p.id = $1

-- hold(): it keeps its name, and the others theirs, until this is undone
LOCK TABLE ONLY {source} IN ACCESS SHARE MODE

-- is_bound(int4, text): is that the source, and were its functions made for this name
SELECT p.bound_name = $2 AND pg_catalog.to_regclass($2) = p.source FROM embed.pipeline p WHERE p.id = $1

-- runs_as_owner(int4): do the functions below run as the source's owner
SELECT embed.runs_as_owner($1)

-- read(jsonb): what the source has now for a JSON array of keys; {reader} is the generation's reader function
SELECT r.ord, r.src_hash, r.content, r.frame FROM {reader}($1) r

-- scan(jsonb, int4): the next keys of the source in key order; {scan} is the pipeline's scan function
SELECT s.key::pg_catalog.text AS key FROM {scan}($1, $2) s (key)

-- canonical_keys(jsonb[]): keys in their stored form; {canonical} is the pipeline's key function
SELECT {canonical}(u.key)::pg_catalog.text AS key FROM pg_catalog.unnest($1) WITH ORDINALITY u (key, place) ORDER BY u.place
