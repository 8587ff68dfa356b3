-- create(): dropped together with its owner's table
CREATE SEQUENCE embed.{owner}_{number}_{name} OWNED BY embed.{owner}.id

-- adopt(): makes it a member, so that DROP EXTENSION works without CASCADE
ALTER EXTENSION evergreen ADD SEQUENCE embed.{owner}_{number}_{name}

-- missing(text[], text[], text[]): sequences that endpoints, models and pipelines lack; all sequences of those without a lock
-- row
SELECT w.owner, w.number, w.name
FROM (SELECT 'endpoint' AS owner, e.id AS number, n.name FROM embed.endpoint e, pg_catalog.unnest($1) n (name)
      UNION ALL SELECT 'model', m.id, n.name FROM embed.model m, pg_catalog.unnest($2) n (name)
      WHERE m.provider NOT IN ('wordllama', 'hash')
      UNION ALL SELECT 'pipeline', p.id, n.name FROM embed.pipeline p, pg_catalog.unnest($3) n (name)
      WHERE p.options ?| '{daily_tokens,daily_cost}') w
WHERE pg_catalog.to_regclass(pg_catalog.format('embed.%s_%s_%s', w.owner, w.number, w.name)) IS NULL
   OR NOT EXISTS (SELECT FROM embed.shared_state_lock x WHERE x.owner = w.owner AND x.number = w.number)

-- release(): removes it from the extension's members
ALTER EXTENSION evergreen DROP SEQUENCE embed.{owner}_{number}_{name}

-- drop(): dropped together with the row it belongs to
DROP SEQUENCE embed.{owner}_{number}_{name}

-- breakers(int4): an endpoint and the models it serves
SELECT 'endpoint' AS owner, $1 AS number
UNION ALL SELECT 'model', m.id FROM embed.model m JOIN embed.endpoint e ON e.name = m.endpoint WHERE e.id = $1

-- reset(): resets it to its initial value
SELECT pg_catalog.setval('embed.{owner}_{number}_{name}', 1)

-- insert_lock(text, int4): the row that a session locks to change them
INSERT INTO embed.shared_state_lock (owner, number) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- delete_lock(text, int4): their owner is dropped
DELETE FROM embed.shared_state_lock WHERE owner = $1 AND number = $2

-- read(): daily counter of a pipeline
SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::bigint AS now, s.last_value AS value
FROM embed.pipeline_{pipeline}_{kind} s

-- write(int8): daily counter of a pipeline
SELECT pg_catalog.setval('embed.pipeline_{pipeline}_{kind}', $1)

-- lock(text, int4): tries to lock it for this subtransaction
SELECT true FROM embed.shared_state_lock m WHERE m.owner = $1 AND m.number = $2 FOR UPDATE SKIP LOCKED

-- read_model(): breaker of a model; a sequence starts at 1, which means no failures
SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000000)::bigint AS now,
       f.last_value AS model_failures, r.last_value AS model_rests_until
FROM embed.model_{model}_failures f, embed.model_{model}_rests_until r

-- read_both(): breakers of a model and its endpoint, and the endpoint's buckets; a join of them took 100 times as long to plan
SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000000)::bigint AS now,
       (SELECT s.last_value FROM embed.model_{model}_failures s) AS model_failures,
       (SELECT s.last_value FROM embed.model_{model}_rests_until s) AS model_rests_until,
       (SELECT s.last_value FROM embed.endpoint_{endpoint}_failures s) AS failures,
       (SELECT s.last_value FROM embed.endpoint_{endpoint}_rests_until s) AS rests_until,
       (SELECT s.last_value FROM embed.endpoint_{endpoint}_requests s) AS requests,
       (SELECT s.last_value FROM embed.endpoint_{endpoint}_backfill_requests s) AS backfill_requests,
       (SELECT s.last_value FROM embed.endpoint_{endpoint}_tokens s) AS tokens,
       (SELECT s.last_value FROM embed.endpoint_{endpoint}_backfill_tokens s) AS backfill_tokens,
       (SELECT s.last_value FROM embed.model_{model}_text_micros s) AS text_micros,
       (SELECT s.last_value FROM embed.model_{model}_sizes s) AS sizes,
       (SELECT s.last_value FROM embed.endpoint_{endpoint}_in_flight s) AS in_flight

-- write_model(int8, int8): breaker of a model
SELECT pg_catalog.setval('embed.model_{model}_failures', $1), pg_catalog.setval('embed.model_{model}_rests_until', $2)

-- write_capacity(int8, int8): learned limits of a model's server
SELECT pg_catalog.setval('embed.model_{model}_text_micros', $1), pg_catalog.setval('embed.model_{model}_sizes', $2)

-- write_in_flight(int8): texts in flight at an endpoint
SELECT pg_catalog.setval('embed.endpoint_{endpoint}_in_flight', $1)

-- write_endpoint(int8, int8, int8, int8, int8, int8): breaker and buckets of an endpoint
SELECT pg_catalog.setval('embed.endpoint_{endpoint}_failures', $1),
       pg_catalog.setval('embed.endpoint_{endpoint}_rests_until', $2),
       pg_catalog.setval('embed.endpoint_{endpoint}_requests', $3),
       pg_catalog.setval('embed.endpoint_{endpoint}_backfill_requests', $4),
       pg_catalog.setval('embed.endpoint_{endpoint}_tokens', $5),
       pg_catalog.setval('embed.endpoint_{endpoint}_backfill_tokens', $6)
