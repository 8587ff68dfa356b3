-- call(text[]): the user's function, through a wrapper that belongs to its owner
SELECT {wrapper}($1)::pg_catalog.text[] AS vectors

-- state(text, text): whether the wrapper still runs as the function's owner
SELECT f.oid IS NOT NULL AS there, w.proowner = f.proowner AND w.prosecdef AS same_owner,
       coalesce((SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = f.proowner), false) AS trusted
FROM (SELECT 1) one
LEFT JOIN pg_catalog.pg_proc f ON f.oid = pg_catalog.to_regprocedure($1)
LEFT JOIN pg_catalog.pg_proc w ON w.oid = pg_catalog.to_regprocedure($2)

-- resolve(text, text): qualified name of a function f(text[]) returns vector[]
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(p.proname) AS name,
       p.prorettype = pg_catalog.to_regtype($2) AS returns_vectors
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.oid = pg_catalog.to_regprocedure($1) AND p.prokind = 'f'
