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
FROM (SELECT v.key, v.chunk_no, v.chunk, v.is_stale, {distance} AS distance FROM {visible}
      WHERE v.generation OPERATOR(pg_catalog.=) {generation} {condition} OFFSET 0) v
ORDER BY v.distance
LIMIT $2

-- by_source(): the chunks of the rows that the caller may see, row by row; OFFSET 0, or it would be joined in another order
(SELECT c.* FROM {source} s CROSS JOIN LATERAL (SELECT w.* FROM {view} w WHERE {matches} OFFSET 0) c) v

-- is_leakproof(oid[]): can an index on keys of these types be used before a policy is checked
SELECT coalesce(pg_catalog.bool_and(coalesce(p.proleakproof, false)), false)
FROM (SELECT CASE u.type WHEN 'pg_catalog.varchar'::pg_catalog.regtype THEN 'pg_catalog.text'::pg_catalog.regtype::oid
                  ELSE u.type END AS type
      FROM pg_catalog.unnest($1) u (type)) t
LEFT JOIN pg_catalog.pg_operator o ON o.oprname = '=' AND o.oprleft = t.type AND o.oprright = t.type
                                  AND o.oprnamespace = 'pg_catalog'::pg_catalog.regnamespace
LEFT JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
