-- view(oid): the view, if it is still ours
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1 AND c.relkind = 'v'
  AND c.relowner = (SELECT e.extowner FROM pg_catalog.pg_extension e WHERE e.extname = 'evergreen')

-- nearest({vector}, int4): the chunks nearest to a vector; the ORDER BY is what an index serves
SELECT v.key::pg_catalog.text AS key, v.chunk_no, v.chunk, 1 - (v.embedding OPERATOR({schema}.<=>) $1) AS score, v.is_stale
FROM {view} v
{condition}
ORDER BY v.embedding OPERATOR({schema}.<=>) $1
LIMIT $2
