-- rows(oid): how many there are, about, and may they be counted
SELECT r.rows, r.is_small FROM embed.rough_rows($1::pg_catalog.regclass) r

-- count(): run as the caller, as all that follow
SELECT count(*) FROM {source}

-- first_rows(): the first of the whole
SELECT {key}::pg_catalog.text AS key, {content} AS content, {frame} AS frame FROM {source} s ORDER BY {order} LIMIT 3

-- all_rows(int4): from the start
SELECT {content} AS content, {frame} AS frame FROM {source} s LIMIT $1

-- some_rows(int4): of pages picked at random
SELECT {content} AS content, {frame} AS frame FROM {source} s TABLESAMPLE pg_catalog.system ({percent}) LIMIT $1
