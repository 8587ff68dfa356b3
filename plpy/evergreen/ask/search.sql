-- is_indexed(text): is this index of a generation there and whole
SELECT EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indexrelid = pg_catalog.to_regclass('embed_store.' || $1) AND i.indisvalid)

-- nearest({vector}, int4): the chunks nearest to a vector; the ORDER BY is what an index serves
SELECT v.key::pg_catalog.text AS key, v.chunk_no, v.chunk, {score} AS score, v.is_stale
FROM {view} v
WHERE v.generation OPERATOR(pg_catalog.=) {generation} {condition}
ORDER BY {distance}
LIMIT $2

-- nearest_of_rough({vector}, int4): the same by an index that knows vectors only roughly: more of them, then exactly
SELECT v.key::pg_catalog.text AS key, v.chunk_no, v.chunk, {score} AS score, v.is_stale
FROM (SELECT v.key, v.chunk_no, v.chunk, v.embedding, v.is_stale FROM {view} v
      WHERE v.generation OPERATOR(pg_catalog.=) {generation} {condition}
      ORDER BY {rough} LIMIT $2 OPERATOR(pg_catalog.*) {more}) v
ORDER BY {distance}
LIMIT $2
