-- nearest({vector}, int4): the chunks nearest to a vector; the ORDER BY is what an index serves
SELECT v.key::pg_catalog.text AS key, v.chunk_no, v.chunk, 1 - (v.embedding OPERATOR({schema}.<=>) $1) AS score, v.is_stale
FROM {view} v
WHERE v.generation OPERATOR(pg_catalog.=) {generation} {condition}
ORDER BY v.embedding OPERATOR({schema}.<=>) $1
LIMIT $2
