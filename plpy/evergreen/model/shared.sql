-- read_model(): the breaker of a model; a sequence starts at 1, which stands for no failures
SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000000)::bigint AS now,
       f.last_value AS model_failures, r.last_value AS model_rests_until
FROM embed.model_{model}_failures f, embed.model_{model}_rests_until r

-- read_both(): the breakers of a model and its endpoint, and the endpoint's buckets
SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000000)::bigint AS now,
       mf.last_value AS model_failures, mr.last_value AS model_rests_until,
       f.last_value AS failures, r.last_value AS rests_until,
       q.last_value AS requests, bq.last_value AS backfill_requests,
       t.last_value AS tokens, bt.last_value AS backfill_tokens,
       mt.last_value AS text_micros, ms.last_value AS sizes, fl.last_value AS flying
FROM embed.model_{model}_failures mf, embed.model_{model}_rests_until mr,
     embed.endpoint_{endpoint}_failures f, embed.endpoint_{endpoint}_rests_until r,
     embed.endpoint_{endpoint}_requests q, embed.endpoint_{endpoint}_backfill_requests bq,
     embed.endpoint_{endpoint}_tokens t, embed.endpoint_{endpoint}_backfill_tokens bt,
     embed.model_{model}_text_micros mt, embed.model_{model}_sizes ms, embed.endpoint_{endpoint}_flying fl

-- write_model(int8, int8): the breaker of a model
SELECT pg_catalog.setval('embed.model_{model}_failures', $1), pg_catalog.setval('embed.model_{model}_rests_until', $2)

-- write_capacity(int8, int8): what was learned of a model's server
SELECT pg_catalog.setval('embed.model_{model}_text_micros', $1), pg_catalog.setval('embed.model_{model}_sizes', $2)

-- write_flying(int8): what an endpoint has to do
SELECT pg_catalog.setval('embed.endpoint_{endpoint}_flying', $1)

-- write_endpoint(int8, int8, int8, int8, int8, int8): breaker and buckets of an endpoint
SELECT pg_catalog.setval('embed.endpoint_{endpoint}_failures', $1),
       pg_catalog.setval('embed.endpoint_{endpoint}_rests_until', $2),
       pg_catalog.setval('embed.endpoint_{endpoint}_requests', $3),
       pg_catalog.setval('embed.endpoint_{endpoint}_backfill_requests', $4),
       pg_catalog.setval('embed.endpoint_{endpoint}_tokens', $5),
       pg_catalog.setval('embed.endpoint_{endpoint}_backfill_tokens', $6)
