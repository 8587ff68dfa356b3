-- is_indexed(text): is this index of a generation there and whole
SELECT EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indexrelid = pg_catalog.to_regclass('embed_store.' || $1) AND i.indisvalid)

-- nearest({vector}, int4): the chunks nearest to a vector; the ORDER BY is what an index serves
SELECT n.key::pg_catalog.text AS key, n.chunk_no, n.chunk, {score} AS score, n.is_stale
FROM {view} n
WHERE n.generation OPERATOR(pg_catalog.=) {generation} {condition}
ORDER BY {distance}
LIMIT $2

-- nearest_of_rough({vector}, int4): the same by an index that knows vectors only roughly: more of them, then exactly
SELECT n.key::pg_catalog.text AS key, n.chunk_no, n.chunk, {score} AS score, n.is_stale
FROM (SELECT n.key, n.chunk_no, n.chunk, n.embedding, n.is_stale FROM {view} n
      WHERE n.generation OPERATOR(pg_catalog.=) {generation} {condition}
      ORDER BY {rough} LIMIT $2 OPERATOR(pg_catalog.*) {more}) n
ORDER BY {distance}
LIMIT $2
