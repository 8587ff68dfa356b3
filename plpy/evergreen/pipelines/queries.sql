-- rename_table(): gives a kept table a descriptive name
ALTER TABLE {table} RENAME TO {name}

-- move_table(): moves it to the source's schema
ALTER TABLE {table} SET SCHEMA {schema}

-- set_table_owner(): gives it to the source's owner
ALTER TABLE {table} OWNER TO {owner}

-- function_owner_and_schema(text): the role a function runs as, and its schema
SELECT pg_catalog.pg_get_userbyid(p.proowner)::text AS owner, pg_catalog.quote_ident(n.nspname) AS schema
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.oid = pg_catalog.to_regprocedure($1)

-- may_execute(text, text): whether a role may call a function
SELECT pg_catalog.has_function_privilege($1, pg_catalog.to_regprocedure($2)::oid, 'EXECUTE')

-- set_options(int4, text): all options of a pipeline
UPDATE embed.pipeline SET options = $2::jsonb WHERE id = $1

-- set_state(int4, text): active or paused
UPDATE embed.pipeline SET state = $2 WHERE id = $1

-- set_capture(int4, text): sets how changes are captured
UPDATE embed.pipeline SET capture = $2 WHERE id = $1

-- switch_to_wal(int4, bool): queues capture from the WAL; the current capture continues until then, or without one everything
-- is checked then
INSERT INTO embed.wal AS w (pipeline, state, triggers, recheck) VALUES ($1, 'pending', $2, NOT $2)
ON CONFLICT (pipeline) DO UPDATE SET state = 'pending', triggers = $2, recheck = NOT $2, horizon = NULL, position = NULL, note = NULL

-- leave_wal(int4): changes committed before now still have to be read; returns whether all of them will be
WITH reading AS (
    UPDATE embed.wal SET state = 'draining', triggers = false, position = pg_catalog.pg_current_wal_insert_lsn(), note = NULL
    WHERE pipeline = $1 AND state = 'streaming' RETURNING true
), others AS (
    DELETE FROM embed.wal WHERE pipeline = $1 AND state <> 'streaming' RETURNING triggers AND NOT recheck AS captured
)
SELECT EXISTS (SELECT FROM reading) OR coalesce((SELECT o.captured FROM others o), false) AS complete

-- insert_pipeline(text, oid, text[], int4[], text[], text, int4, text, text, text): a new pipeline.
-- The id here and those below must be new to the catalog: a partial restore may have left a sequence behind its table, or rows
-- and triggers of an id whose own row is missing.
INSERT INTO embed.pipeline (id, name, source, source_name, bound_name, key_names, key_attnums, key_types, only_if, only_if_attnum, capture,
                            options, system_identifier, database_oid, source_oid)
SELECT n.id, $1, $2, $10, $10, $3::name[], $4::int2[], $5, $6::name, $7::int2, $8, $9::jsonb,
       s.system_identifier, d.oid, $2
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d,
     (SELECT pg_catalog.nextval('embed.pipeline_id_seq') AS id FROM pg_catalog.generate_series(1, 10000)) n
WHERE d.datname = pg_catalog.current_database()
  AND NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = n.id)
  AND NOT EXISTS (SELECT FROM embed.generation g WHERE g.pipeline = n.id)
  AND NOT EXISTS (SELECT FROM embed.change_log c WHERE c.pipeline = n.id)
  AND NOT EXISTS (SELECT FROM embed.change_log_state i WHERE i.pipeline = n.id)
  AND pg_catalog.to_regproc('embed_store.capture_' || n.id) IS NULL
LIMIT 1
RETURNING id

-- insert_generation(int4, int4, text[], text, jsonb, text[], int4[], text, jsonb): a new generation.
-- Its id must not belong to an existing table: vectors that outlived an earlier DROP EXTENSION keep theirs.
INSERT INTO embed.generation (id, pipeline, model, columns, template, chunker, watched_names, watched_attnums, state, options)
SELECT n.id, $1, $2, $3::name[], $4, $5, $6::name[], $7::int2[], $8, $9
FROM (SELECT pg_catalog.nextval('embed.generation_id_seq') AS id FROM pg_catalog.generate_series(1, 10000)) n
WHERE NOT EXISTS (SELECT FROM embed.generation g WHERE g.id = n.id)
  AND NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = n.id) AND pg_catalog.to_regclass('embed_store.g' || n.id) IS NULL AND pg_catalog.to_regclass('embed_store.readable_' || n.id) IS NULL
LIMIT 1
RETURNING id

-- lock_model(int4, int4): keeps the pipeline and the model from being dropped until this transaction ends
SELECT FROM embed.pipeline p, embed.model m WHERE p.id = $1 AND m.id = $2 FOR KEY SHARE

-- start_in_wal(int4, bool, bool): queues capture from the WAL; whether triggers capture until then, and whether everything is
-- checked then
INSERT INTO embed.wal (pipeline, state, triggers, recheck) VALUES ($1, 'pending', $2, $3)

-- set_view(int4, oid): records the view
UPDATE embed.pipeline SET view = $2, view_name = embed.qualified_name($2) WHERE id = $1

-- relation_name(oid): name of a relation without its schema
SELECT c.relname::text FROM pg_catalog.pg_class c WHERE c.oid = $1

-- lock_pipeline(int4): makes sessions that add a generation wait, or waits for them
SELECT FROM embed.pipeline p WHERE p.id = $1 FOR UPDATE

-- delete_queue(int4): deletes all queued and finished work of a pipeline; its own row is deleted last
WITH generations AS (SELECT g.id FROM embed.generation g WHERE g.pipeline = $1),
     changes AS (DELETE FROM embed.change_log WHERE pipeline = $1),
     log_state AS (DELETE FROM embed.change_log_state WHERE pipeline = $1),
     wal AS (DELETE FROM embed.wal WHERE pipeline = $1),
     jobs AS (DELETE FROM embed.job WHERE generation IN (SELECT id FROM generations)),
     leases AS (DELETE FROM embed.lease WHERE generation IN (SELECT id FROM generations)),
     cursors AS (DELETE FROM embed.backfill_cursor WHERE generation IN (SELECT id FROM generations)),
     lags AS (DELETE FROM embed.lag WHERE pipeline = $1),
     usage AS (DELETE FROM embed.usage WHERE pipeline = $1),
     failures AS (DELETE FROM embed.failure WHERE generation IN (SELECT id FROM generations)),
     documents AS (DELETE FROM embed.document WHERE generation IN (SELECT id FROM generations))
SELECT 1

-- delete_generations(int4): the generations of a pipeline
DELETE FROM embed.generation WHERE pipeline = $1

-- delete_pipeline(int4): the pipeline itself
DELETE FROM embed.pipeline WHERE id = $1

-- source_schema(oid): schema that kept vectors move to
SELECT n.nspname::text AS schema, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1

-- insert_model(text, text, text, int4, text, text): a new model, with an id that no vector uses; see insert_pipeline
INSERT INTO embed.model (id, name, provider, remote_name, dimensions, endpoint, options)
SELECT n.id, $1, $2, $3, $4, $5, $6::jsonb
FROM (SELECT pg_catalog.nextval('embed.model_id_seq') AS id FROM pg_catalog.generate_series(1, 10000)) n
WHERE NOT EXISTS (SELECT FROM embed.model m WHERE m.id = n.id)
  AND NOT EXISTS (SELECT FROM embed.generation g WHERE g.model = n.id)
  AND NOT EXISTS (SELECT FROM embed.cache c WHERE c.model = n.id)
LIMIT 1
RETURNING id

-- endpoint_exists(text): whether the endpoint exists
SELECT EXISTS (SELECT FROM embed.endpoint e WHERE e.name = $1)

-- pipelines_of_model(int4): pipelines that use a model
SELECT p.name FROM embed.pipeline p JOIN embed.generation g ON g.pipeline = p.id WHERE g.model = $1 ORDER BY p.id

-- delete_model(int4): deletes a model and its cached vectors
WITH cached AS (DELETE FROM embed.cache WHERE model = $1), flying AS (DELETE FROM embed.in_flight WHERE model = $1)
DELETE FROM embed.model WHERE id = $1

-- is_built_in(int4): built-in models cannot be dropped
SELECT m.built_in FROM embed.model m WHERE m.id = $1

-- upsert_endpoint(text, text, text, text): inserts or updates an endpoint
INSERT INTO embed.endpoint (id, name, url, secret, options)
SELECT n.id, $1, $2, $3, $4::jsonb
FROM (SELECT pg_catalog.nextval('embed.endpoint_id_seq') AS id FROM pg_catalog.generate_series(1, 10000)) n
WHERE NOT EXISTS (SELECT FROM embed.endpoint e WHERE e.id = n.id)
LIMIT 1
ON CONFLICT (name) DO UPDATE SET url = EXCLUDED.url, secret = EXCLUDED.secret, options = EXCLUDED.options
RETURNING id

-- endpoint_settings(text): an endpoint's settings
SELECT e.url, e.secret, e.options::text AS options FROM embed.endpoint e WHERE e.name = $1

-- lock_model_options(text): a model's options, locked for change
SELECT m.options::text AS options, m.built_in FROM embed.model m WHERE m.name = $1 FOR NO KEY UPDATE

-- set_model_options(int4, text): sets a model's options
UPDATE embed.model SET options = $2::jsonb WHERE id = $1

-- pipelines_with_budget(int4): pipelines of a model whose budget depends on its price
SELECT DISTINCT p.name FROM embed.pipeline p JOIN embed.generation g ON g.pipeline = p.id
WHERE g.model = $1 AND p.options ? 'daily_cost' ORDER BY p.name

-- create_wrapper(): runs the user's function as its owner, with its own schema, pgvector's and public in {path}.
-- So its body finds what it finds when its owner calls it; a search_path set on the function takes precedence.
CREATE OR REPLACE FUNCTION {wrapper}(text[]) RETURNS {vector}[]
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = {path} SET lock_timeout = 0
AS {body}

-- depend_on_extension(): DROP EXTENSION drops it even without CASCADE: no vector depends on it
ALTER FUNCTION {signature} DEPENDS ON EXTENSION evergreen

-- upsert_setting(text, text): stores a setting
INSERT INTO embed.setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value
