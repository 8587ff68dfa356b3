-- insert_pipeline(text, oid, text[], int4[], text[], text, int4, text, text, text): a new pipeline
-- Its number, and those below, are new to the catalog: a partial restore may have left a sequence behind what it numbers, or
-- rows and triggers that belong to a number whose own row it left out.
INSERT INTO embed.pipeline (id, name, source, bound_name, key_names, key_attnums, key_types, only_if, only_if_attnum, capture, options,
                            system_identifier, database_oid, source_oid)
SELECT n.id, $1, $2::pg_catalog.regclass, $10, $3::name[], $4::int2[], $5, $6::name, $7::int2, $8, $9::jsonb,
       s.system_identifier, d.oid, $2
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d,
     (SELECT pg_catalog.nextval('embed.pipeline_id_seq') AS id FROM pg_catalog.generate_series(1, 10000)) n
WHERE d.datname = pg_catalog.current_database()
  AND NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = n.id)
  AND NOT EXISTS (SELECT FROM embed.generation g WHERE g.pipeline = n.id)
  AND NOT EXISTS (SELECT FROM embed.change c WHERE c.pipeline = n.id)
  AND NOT EXISTS (SELECT FROM embed.intake i WHERE i.pipeline = n.id)
  AND pg_catalog.to_regproc('embed_store.capture_' || n.id) IS NULL
LIMIT 1
RETURNING id

-- insert_generation(int4, int4, text[], text, jsonb, text[], int4[], text, jsonb): a new generation
-- The number is one that no table has: vectors that outlived an earlier DROP EXTENSION keep theirs.
INSERT INTO embed.generation (id, pipeline, model, columns, template, chunker, watched_names, watched_attnums, state, options)
SELECT n.id, $1, $2, $3::name[], $4, $5, $6::name[], $7::int2[], $8, $9
FROM (SELECT pg_catalog.nextval('embed.generation_id_seq') AS id FROM pg_catalog.generate_series(1, 10000)) n
WHERE NOT EXISTS (SELECT FROM embed.generation g WHERE g.id = n.id)
  AND NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = n.id) AND pg_catalog.to_regclass('embed_store.g' || n.id) IS NULL AND pg_catalog.to_regclass('embed_store.readable_' || n.id) IS NULL
LIMIT 1
RETURNING id

-- hold_model(int4, int4): neither the pipeline nor the model goes before this transaction ends
SELECT FROM embed.pipeline p, embed.model m WHERE p.id = $1 AND m.id = $2 FOR KEY SHARE

-- want_wal(int4, bool, bool): its changes are to be read from the WAL; are there triggers until then, is all checked then
INSERT INTO embed.wal (pipeline, state, triggers, checks) VALUES ($1, 'wanted', $2, $3)

-- set_view(int4, oid): remember the view
UPDATE embed.pipeline SET view = $2::pg_catalog.regclass WHERE id = $1

-- rows_estimate(oid): how many rows will be checked
SELECT embed.estimate_rows($1::pg_catalog.regclass)

-- short_locks(): to the end of the step, waits for locks are short
SELECT pg_catalog.set_config('lock_timeout', '50ms', true)
