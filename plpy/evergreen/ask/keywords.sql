-- candidates(text, int4): the chunks with the best rank; no more than some thousand matches are ranked, which is to cut each
-- of their texts into words. Normalisations 1 (the length's logarithm) and 32 (from 0 to 1) of ts_rank_cd
SELECT m.key::pg_catalog.text AS key, m.chunk_no, {keys},
       pg_catalog.ts_rank_cd({words}, {query}, 33)::pg_catalog.float8 AS score
FROM (SELECT g.* FROM {table} g WHERE {words_of_table} OPERATOR(pg_catalog.@@) {query} LIMIT {most}) m
ORDER BY score DESC, key, chunk_no
LIMIT $2

-- visible(): of these chunks, those that whoever asks may see. MATERIALIZED: a cast is no leakproof function, and the
-- planner would not use the key's indexes before the policies
WITH asked AS MATERIALIZED (
    SELECT u.place, u.key, u.chunk_no, {casts}
    FROM ROWS FROM ({arrays}) WITH ORDINALITY u (key, chunk_no, {names}, place)
)
SELECT v.key::pg_catalog.text AS key, v.chunk_no, v.chunk, v.is_stale, a.place
FROM asked a JOIN {view} v ON {matches} AND v.chunk_no OPERATOR(pg_catalog.=) a.chunk_no
WHERE v.generation OPERATOR(pg_catalog.=) {generation} AND v.key OPERATOR(pg_catalog.=) a.key {condition}
ORDER BY a.place

-- read_all(text, int4): the best of the chunks that the caller may see
SELECT m.key::pg_catalog.text AS key, m.chunk_no, m.chunk, m.is_stale,
       pg_catalog.ts_rank_cd({words}, {query}, 33)::pg_catalog.float8 AS score
FROM (SELECT v.key, v.chunk_no, v.chunk, v.is_stale FROM {visible}
      WHERE v.generation OPERATOR(pg_catalog.=) {generation} {condition}
        AND {words_of_view} OPERATOR(pg_catalog.@@) {query} LIMIT {most}) m
ORDER BY score DESC, key, chunk_no
LIMIT $2
