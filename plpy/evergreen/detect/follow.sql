-- identity(oid): where we are now
SELECT s.system_identifier, d.oid::bigint AS database_oid
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database() AND $1 IS NOT NULL

-- set_pipeline(int4, text[], int[], text, int4, text): names and numbers as they are now, and what is broken
UPDATE embed.pipeline SET key_names = $2::name[], key_attnums = $3::int2[], only_if = $4::name, only_if_attnum = $5::int2,
                          broken_reason = $6
WHERE id = $1

-- set_broken(int4, text): why nothing can be read
UPDATE embed.pipeline SET broken_reason = $2 WHERE id = $1

-- set_generation(int4, text[], text, text[], int[]): names and numbers as they are now
UPDATE embed.generation SET columns = $2::name[], template = $3, watched_names = $4::name[], watched_attnums = $5::int2[]
WHERE id = $1

-- set_seen(int4, int8, int8, oid): this is where the pipeline lives now
UPDATE embed.pipeline SET system_identifier = $2, database_oid = $3::oid, source_oid = $4 WHERE id = $1

-- drop_leases(int4): tokens of another server mean nothing here
DELETE FROM embed.lease l USING embed.generation g WHERE g.pipeline = $1 AND l.generation = g.id

-- drop_floor(int4): transaction ids of another server mean nothing here
UPDATE embed.intake SET floor = '0' WHERE pipeline = $1

-- restart_scans(int4): check everything again, without calls for what is fresh
UPDATE embed.scan s SET running = true, position = NULL, started_at = pg_catalog.clock_timestamp()
FROM embed.generation g WHERE g.pipeline = $1 AND s.generation = g.id

-- log_scope(int4, text): check every document, or every source row too
INSERT INTO embed.change (pipeline, scope) VALUES ($1, $2)

-- function_state(text, oid): does a generated function still run as the source's owner
SELECT p.prosecdef AND p.proowner = c.relowner
FROM pg_catalog.pg_proc p, pg_catalog.pg_class c
WHERE p.oid = pg_catalog.to_regprocedure($1) AND c.oid = $2

