-- read(): the counter of a pipeline's day
SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::bigint AS now, s.last_value AS value
FROM embed.pipeline_{pipeline}_{kind} s

-- write(int8): the counter of a pipeline's day
SELECT pg_catalog.setval('embed.pipeline_{pipeline}_{kind}', $1)
