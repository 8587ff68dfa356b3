-- rows(oid): how many there are, about
SELECT embed.estimate_rows($1::pg_catalog.regclass)

-- first_rows(): run as the caller, as the next two
SELECT {key}::pg_catalog.text AS key, {content} AS content, {frame} AS frame FROM {source} s ORDER BY {order} LIMIT 3

-- all_rows(int4): from the start
SELECT {content} AS content, {frame} AS frame FROM {source} s LIMIT $1

-- some_rows(int4): of pages picked at random
SELECT {content} AS content, {frame} AS frame FROM {source} s TABLESAMPLE pg_catalog.system ({percent}) LIMIT $1
