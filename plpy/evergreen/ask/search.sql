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

-- nearest_exactly({vector}, int4): the same without an index, which would come upon hidden rows: OFFSET 0 keeps it away
SELECT v.key::pg_catalog.text AS key, v.chunk_no, v.chunk, {score} AS score, v.is_stale
FROM (SELECT v.key, v.chunk_no, v.chunk, v.is_stale, {distance} AS distance FROM {view} v
      WHERE v.generation OPERATOR(pg_catalog.=) {generation} {condition} OFFSET 0) v
ORDER BY v.distance
LIMIT $2

-- is_restricted(oid): does row security apply to the caller, on this table
SELECT pg_catalog.row_security_active($1)
