-- some_texts(int4): of rows that stand anywhere in the generation
SELECT pg_catalog."left"(c.chunk, 500) AS chunk
FROM (SELECT b.low + pg_catalog.floor(pg_catalog.random() * (b.high - b.low + 1))::bigint AS place
      FROM (SELECT min(g.document) AS low, max(g.document) AS high FROM {table} g) b, pg_catalog.generate_series(1, $1)
      OFFSET 0) p
CROSS JOIN LATERAL (SELECT g.chunk FROM {table} g WHERE g.document >= p.place ORDER BY g.document, g.id LIMIT 1) c

-- visible_texts(int4): of rows that whoever asks may see
SELECT pg_catalog."left"(v.chunk, 500) AS chunk FROM {view} v LIMIT $1

-- visible_keys(jsonb[]): of these keys, those of rows that whoever asks may see
SELECT DISTINCT v.key::pg_catalog.text AS key FROM {view} v WHERE v.key = ANY ($1)

-- nearest({vector}, int4): the keys of the chunks nearest to a vector, but for those that are near nothing
SELECT g.key::pg_catalog.text AS key FROM {table} g WHERE {not_blank} ORDER BY {distance} LIMIT $2
