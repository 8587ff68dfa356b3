-- exists(text): is it there
SELECT pg_catalog.to_regclass($1)::oid::bigint

-- create(): it goes with the table that its owner is in
CREATE SEQUENCE embed.{owner}_{number}_{name} OWNED BY embed.{owner}.id

-- adopt(): a member, or DROP EXTENSION would have to be told CASCADE
ALTER EXTENSION evergreen ADD SEQUENCE embed.{owner}_{number}_{name}

-- missing(text[], text[], text[]): of endpoints, models and pipelines, who should have which and has not
SELECT w.owner, w.number, w.name
FROM (SELECT 'endpoint' AS owner, e.id AS number, n.name FROM embed.endpoint e, pg_catalog.unnest($1) n (name)
      UNION ALL SELECT 'model', m.id, n.name FROM embed.model m, pg_catalog.unnest($2) n (name)
      WHERE m.provider NOT IN ('wordllama', 'hash')
      UNION ALL SELECT 'pipeline', p.id, n.name FROM embed.pipeline p, pg_catalog.unnest($3) n (name)
      WHERE p.options ?| '{daily_tokens,daily_cost}') w
WHERE pg_catalog.to_regclass(pg_catalog.format('embed.%s_%s_%s', w.owner, w.number, w.name)) IS NULL

-- release(): no member any more
ALTER EXTENSION evergreen DROP SEQUENCE embed.{owner}_{number}_{name}

-- drop(): with the row they belong to
DROP SEQUENCE embed.{owner}_{number}_{name}

-- breakers(int4): an endpoint and the models that it serves
SELECT 'endpoint' AS owner, $1 AS number
UNION ALL SELECT 'model', m.id FROM embed.model m JOIN embed.endpoint e ON e.name = m.endpoint WHERE e.id = $1

-- reset(): as it was made
SELECT pg_catalog.setval('embed.{owner}_{number}_{name}', 1)

-- create_mutex(text, int4): the row that is locked by whoever changes them
INSERT INTO embed.mutex (owner, number) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- drop_mutex(text, int4): nobody changes them any more
DELETE FROM embed.mutex WHERE owner = $1 AND number = $2
