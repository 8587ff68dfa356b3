-- depends(int4): what embed_create() was told of the tables under a view
SELECT embed.depends($1)::pg_catalog.text

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

-- insert_pipeline(text, oid, text[], int4[], text[], text, int4, text, text, text, text): a new pipeline.
-- The id here and those below must be new to the catalog: a partial restore may have left a sequence behind its table, or rows
-- and triggers of an id whose own row is missing.
INSERT INTO embed.pipeline (id, name, source, source_name, source_owner, bound_name, key_names, key_attnums, key_types, only_if, only_if_attnum, capture,
                            options, system_identifier, database_oid, source_oid, definition)
SELECT n.id, $1, c.oid, $10, pg_catalog.pg_get_userbyid(c.relowner), $10, $3::name[], $4::int2[], $5, $6::name, $7::int2, $8, $9::jsonb,
       s.system_identifier, d.oid, c.oid, $11
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d, pg_catalog.pg_class c,
     (SELECT pg_catalog.nextval('embed.pipeline_id_seq') AS id FROM pg_catalog.generate_series(1, 10000)) n
WHERE d.datname = pg_catalog.current_database() AND c.oid = $2
  AND NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = n.id)
  AND NOT EXISTS (SELECT FROM embed.generation g WHERE g.pipeline = n.id)
  AND NOT EXISTS (SELECT FROM embed.change_log c WHERE c.pipeline = n.id)
  AND NOT EXISTS (SELECT FROM embed.change_log_state i WHERE i.pipeline = n.id)
  AND NOT EXISTS (SELECT FROM embed.dependency e WHERE e.pipeline = n.id)
  AND pg_catalog.to_regproc('embed_store.capture_' || n.id) IS NULL
  AND pg_catalog.to_regproc('embed_store.scan_' || n.id) IS NULL
LIMIT 1
RETURNING id

-- insert_generation(int4, int4, text[], text, jsonb, text[], int4[], text, jsonb, int4): a new generation.
-- Its id must not belong to an existing table: vectors that outlived an earlier DROP EXTENSION keep theirs.
INSERT INTO embed.generation (id, pipeline, model, columns, template, chunker, watched_names, watched_attnums, state, options, model_revision)
SELECT n.id, $1, $2, $3::name[], $4, $5, $6::name[], $7::int2[], $8, $9, $10
FROM (SELECT pg_catalog.nextval('embed.generation_id_seq') AS id FROM pg_catalog.generate_series(1, 10000)) n
WHERE NOT EXISTS (SELECT FROM embed.generation g WHERE g.id = n.id)
  AND NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = n.id) AND pg_catalog.to_regclass('embed_store.g' || n.id) IS NULL AND pg_catalog.to_regclass('embed_store.readable_' || n.id) IS NULL
LIMIT 1
RETURNING id

-- lock_model(int4, int4): keeps the pipeline and the model from being dropped until this transaction ends
SELECT FROM embed.pipeline p, embed.model m WHERE p.id = $1 AND m.id = $2 FOR KEY SHARE

-- set_view(int4, oid): records the view
UPDATE embed.pipeline SET view = $2, view_name = embed.qualified_name($2) WHERE id = $1

-- relation_name(oid): name of a relation without its schema
SELECT c.relname::text FROM pg_catalog.pg_class c WHERE c.oid = $1

-- lock_pipeline(int4): makes sessions that add a generation wait, or waits for them
SELECT FROM embed.pipeline p WHERE p.id = $1 FOR UPDATE

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

-- delete_model(int4): deletes a model
DELETE FROM embed.model WHERE id = $1
