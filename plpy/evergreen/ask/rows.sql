-- names_of_source(oid): pipelines on a table
SELECT p.name FROM embed.pipeline p WHERE p.source = $1::pg_catalog.regclass ORDER BY p.id

-- rows(): whole source rows by their best chunk; more chunks than rows are fetched where a row has several. A distance to a
-- vector of zeros may be NaN, which is beyond infinity
SELECT {alias} AS source_row, b.chunk, {score} AS score
FROM (SELECT * FROM (SELECT DISTINCT ON (n.key) n.* FROM ({nearest}) n
      WHERE n.distance OPERATOR(pg_catalog.<) 'infinity'
      ORDER BY n.key, n.distance) d ORDER BY d.distance LIMIT {k}) b
JOIN {source} {alias} ON {matches}
ORDER BY b.distance

-- nearest(): the chunks that are nearest, by the order that an index serves. Column by column: what stands for a whole row
-- of the view is taken for a column where a column of the key has that name
SELECT v.key, v.chunk, {columns}, {distance} AS distance FROM {view} v
WHERE v.generation OPERATOR(pg_catalog.=) {generation} {condition}
ORDER BY {order} LIMIT {fetch}

-- nearest_exactly(): the same without an index, see ask/search.sql
SELECT x.* FROM (SELECT v.key, v.chunk, {columns}, {distance} AS distance FROM {visible}
      WHERE v.generation OPERATOR(pg_catalog.=) {generation} {condition} OFFSET 0) x
ORDER BY x.distance LIMIT {fetch}
