-- insert(text, text, text, int4, text, text): a new model, of a number that no vector is of; see insert_pipeline in create.sql
INSERT INTO embed.model (id, name, provider, remote_name, dimensions, endpoint, options)
SELECT n.id, $1, $2, $3, $4, $5, $6::jsonb
FROM (SELECT pg_catalog.nextval('embed.model_id_seq') AS id FROM pg_catalog.generate_series(1, 10000)) n
WHERE NOT EXISTS (SELECT FROM embed.model m WHERE m.id = n.id)
  AND NOT EXISTS (SELECT FROM embed.generation g WHERE g.model = n.id)
  AND NOT EXISTS (SELECT FROM embed.cache c WHERE c.model = n.id)
LIMIT 1
RETURNING id

-- endpoint_exists(text): is it there
SELECT EXISTS (SELECT FROM embed.endpoint e WHERE e.name = $1)

-- users(int4): pipelines that use a model
SELECT p.name FROM embed.pipeline p JOIN embed.generation g ON g.pipeline = p.id WHERE g.model = $1 ORDER BY p.id

-- delete(int4): with the vectors kept for it
WITH cached AS (DELETE FROM embed.cache WHERE model = $1), flying AS (DELETE FROM embed.inflight WHERE model = $1)
DELETE FROM embed.model WHERE id = $1

-- is_built_in(int4): cannot be dropped
SELECT m.built_in FROM embed.model m WHERE m.id = $1

-- put_endpoint(text, text, text, text): new or changed
INSERT INTO embed.endpoint (id, name, url, secret, options)
SELECT n.id, $1, $2, $3, $4::jsonb
FROM (SELECT pg_catalog.nextval('embed.endpoint_id_seq') AS id FROM pg_catalog.generate_series(1, 10000)) n
WHERE NOT EXISTS (SELECT FROM embed.endpoint e WHERE e.id = n.id)
LIMIT 1
ON CONFLICT (name) DO UPDATE SET url = EXCLUDED.url, secret = EXCLUDED.secret, options = EXCLUDED.options
RETURNING id

-- endpoint(text): as it was set
SELECT e.url, e.secret, e.options::text AS options FROM embed.endpoint e WHERE e.name = $1

-- wake(int4): rows that wait for a model of an endpoint are tried at once
UPDATE embed.job SET ready_at = pg_catalog.clock_timestamp()
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM embed.endpoint e JOIN embed.model m ON m.endpoint = e.name
    JOIN embed.generation g ON g.model = m.id JOIN embed.job j ON j.generation = g.id
    WHERE e.id = $1 AND j.token IS NULL AND j.ready_at > pg_catalog.clock_timestamp() FOR UPDATE OF j SKIP LOCKED))

-- hold(text): a model's options, for change
SELECT m.options::text AS options, m.built_in FROM embed.model m WHERE m.name = $1 FOR NO KEY UPDATE

-- set_options(int4, text): of a model
UPDATE embed.model SET options = $2::jsonb WHERE id = $1

-- with_budget(int4): pipelines of a model whose spending is limited by its price
SELECT DISTINCT p.name FROM embed.pipeline p JOIN embed.generation g ON g.pipeline = p.id
WHERE g.model = $1 AND p.options ? 'daily_cost' ORDER BY p.name

-- wake_model(int4): rows that wait for a model are tried at once
UPDATE embed.job SET ready_at = pg_catalog.clock_timestamp()
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM embed.generation g JOIN embed.job j ON j.generation = g.id
    WHERE g.model = $1 AND j.token IS NULL AND j.ready_at > pg_catalog.clock_timestamp() FOR UPDATE OF j SKIP LOCKED))

-- wrapper(): runs the user's function as its owner. {path}: its own schema, pgvector's and public, where its body finds
-- what it finds when its owner calls it; a search_path of the function's own comes first anyway
CREATE OR REPLACE FUNCTION {wrapper}(text[]) RETURNS {vector}[]
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = {path} SET lock_timeout = 0
AS {body}

-- follow_extension(): DROP EXTENSION takes it along, without CASCADE too: no vector depends on it
ALTER FUNCTION {signature} DEPENDS ON EXTENSION evergreen
