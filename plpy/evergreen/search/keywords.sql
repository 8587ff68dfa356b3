-- lexemes(text): the words of a question that a chunk must have, and may have, in the form in which the index has them
SELECT coalesce(pg_catalog.tsvector_to_array(pg_catalog.to_tsvector({language}, pg_catalog."left"($1, {most}))), '{}') AS any,
       pg_catalog.querytree({query}) AS all

-- having_all_words(text, int4): chunks that match a query; short ones first, in which its words weigh most
SELECT m.key::pg_catalog.text AS key, m.chunk_no
FROM (SELECT g.* FROM {table} g WHERE {words} OPERATOR(pg_catalog.@@) {query} LIMIT {most}) m
ORDER BY pg_catalog.length(m.chunk), key, chunk_no
LIMIT $2

-- count_all_words(text[]): how many chunks have each word, counted up to a number
SELECT w.lexeme, (SELECT count(*) FROM (SELECT FROM {table} g WHERE {words} OPERATOR(pg_catalog.@@) w.word LIMIT {common}) h)
                 AS chunks
FROM (SELECT u.lexeme, pg_catalog.array_to_tsvector(ARRAY[u.lexeme])::pg_catalog.text::pg_catalog.tsquery AS word
      FROM pg_catalog.unnest($1) u (lexeme) OFFSET 0) w

-- having_any_word(text[], int4, float8): chunks with words of a question that few chunks have, by the sum of their weights, and
-- how many chunks have each word, counted up to a number. A common word decides nothing here: it is looked for in the chunks that
-- are found. $3: chunks of the table.
WITH words AS MATERIALIZED (
    SELECT u.lexeme, pg_catalog.array_to_tsvector(ARRAY[u.lexeme])::pg_catalog.text::pg_catalog.tsquery AS word
    FROM pg_catalog.unnest($1) u (lexeme)),
hits AS MATERIALIZED (
    SELECT w.lexeme, h.place
    FROM words w CROSS JOIN LATERAL (
        SELECT g.ctid AS place FROM {table} g WHERE {words} OPERATOR(pg_catalog.@@) w.word LIMIT {common}) h),
counts AS MATERIALIZED (SELECT h.lexeme, count(*) AS chunks FROM hits h GROUP BY h.lexeme),
best AS MATERIALIZED (
    SELECT h.place, sum(pg_catalog.ln(1 + $3 / c.chunks)) AS weight
    FROM hits h JOIN counts c USING (lexeme)
    WHERE c.chunks < {common}
    GROUP BY h.place ORDER BY weight DESC, h.place LIMIT $2)
SELECT c.lexemes, c.chunks, m.*
FROM (SELECT pg_catalog.array_agg(c.lexeme) AS lexemes, pg_catalog.array_agg(c.chunks) AS chunks FROM counts c) c
LEFT JOIN (SELECT g.key::pg_catalog.text AS key, g.chunk_no, b.weight
           FROM best b JOIN {table} g ON g.ctid = b.place) m ON true
ORDER BY m.weight DESC, m.key, m.chunk_no

-- table_rows(text): chunks of a table by the planner's estimate; -1: not known
SELECT c.reltuples::pg_catalog.float8 FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)

-- term_counts(text[], text[]): how often each text has each of these words
SELECT ARRAY(SELECT coalesce((SELECT pg_catalog.array_length(t.positions, 1)
                              FROM pg_catalog.unnest(x.words) t WHERE t.lexeme OPERATOR(pg_catalog.=) w.lexeme), 0)
             FROM pg_catalog.unnest($2) WITH ORDINALITY w (lexeme, n) ORDER BY w.n) AS counts
FROM (SELECT u.place, {words} AS words FROM pg_catalog.unnest($1) WITH ORDINALITY u (chunk, place) OFFSET 0) x
ORDER BY x.place

-- visible_chunks(jsonb, {vector}): those of these chunks that the caller may see, and how near they are to a vector
WITH asked AS MATERIALIZED (
    SELECT r.place, r.key, r.chunk_no, {values}
    FROM pg_catalog.jsonb_to_recordset($1) AS r (place int, key jsonb, chunk_no int{columns})
)
SELECT v.key::pg_catalog.text AS key, v.chunk_no, v.chunk, v.is_stale, {score} AS score
FROM asked a JOIN {view} v ON {matches} AND v.chunk_no OPERATOR(pg_catalog.=) a.chunk_no
WHERE v.generation OPERATOR(pg_catalog.=) {generation} AND v.key OPERATOR(pg_catalog.=) a.key {condition}
ORDER BY a.place
LIMIT {limit}

-- read_all(text, text[], int4, {vector}): the same without an index: of all chunks that the caller may see, those that match a query.
-- Words weigh by these chunks alone. OFFSET 0: each chunk is split into words once.
WITH found AS MATERIALIZED (
    SELECT m.* FROM (
        SELECT v.key::pg_catalog.text AS key, v.chunk_no, v.chunk, v.is_stale, v.embedding, {words_of_view} AS words
        FROM {visible} WHERE v.generation OPERATOR(pg_catalog.=) {generation} {condition} OFFSET 0) m
    WHERE m.words OPERATOR(pg_catalog.@@) {query} LIMIT {most}),
words AS MATERIALIZED (
    SELECT u.lexeme, pg_catalog.array_to_tsvector(ARRAY[u.lexeme])::pg_catalog.text::pg_catalog.tsquery AS word
    FROM pg_catalog.unnest($2) u (lexeme)),
hits AS MATERIALIZED (
    SELECT w.lexeme, f.key, f.chunk_no FROM words w JOIN found f ON f.words OPERATOR(pg_catalog.@@) w.word),
counts AS MATERIALIZED (SELECT h.lexeme, count(*) AS chunks FROM hits h GROUP BY h.lexeme),
best AS (SELECT h.key, h.chunk_no, sum(pg_catalog.ln(1 + t.chunks::pg_catalog.float8 / c.chunks)) AS weight
         FROM hits h JOIN counts c USING (lexeme) CROSS JOIN (SELECT count(*) AS chunks FROM found) t
         GROUP BY h.key, h.chunk_no)
SELECT c.lexemes, c.chunks, c.total, f.key, f.chunk_no, f.chunk, f.is_stale, {score} AS score
FROM (SELECT pg_catalog.array_agg(c.lexeme) AS lexemes, pg_catalog.array_agg(c.chunks) AS chunks,
             (SELECT count(*) FROM found) AS total FROM counts c) c
CROSS JOIN found f LEFT JOIN best b ON b.key = f.key AND b.chunk_no = f.chunk_no
ORDER BY b.weight DESC NULLS LAST, pg_catalog.length(f.chunk), f.key, f.chunk_no
LIMIT $3
