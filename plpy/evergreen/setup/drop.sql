-- lock(int4): a generation that is being added waits, or is waited for
SELECT FROM embed.pipeline p WHERE p.id = $1 FOR UPDATE

-- wait_for_workers(): what a worker has in hand of the pipeline it gives back, as it does not get at the vectors any more
SELECT pg_catalog.set_config('lock_timeout', '3s', true)

-- delete_queue(int4): everything that waits or was done for a pipeline; its row goes last
WITH generations AS (SELECT g.id FROM embed.generation g WHERE g.pipeline = $1),
     changes AS (DELETE FROM embed.change WHERE pipeline = $1),
     intake AS (DELETE FROM embed.intake WHERE pipeline = $1),
     wal AS (DELETE FROM embed.wal WHERE pipeline = $1),
     jobs AS (DELETE FROM embed.job WHERE generation IN (SELECT id FROM generations)),
     leases AS (DELETE FROM embed.lease WHERE generation IN (SELECT id FROM generations)),
     scans AS (DELETE FROM embed.scan WHERE generation IN (SELECT id FROM generations)),
     lags AS (DELETE FROM embed.lag WHERE pipeline = $1),
     usage AS (DELETE FROM embed.usage WHERE pipeline = $1),
     failures AS (DELETE FROM embed.failure WHERE generation IN (SELECT id FROM generations)),
     documents AS (DELETE FROM embed.document WHERE generation IN (SELECT id FROM generations))
SELECT 1

-- delete_generations(int4): the generations of a pipeline
DELETE FROM embed.generation WHERE pipeline = $1

-- delete_pipeline(int4): the pipeline itself
DELETE FROM embed.pipeline WHERE id = $1

-- source_schema(oid): where kept vectors go
SELECT n.nspname::text AS schema, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1
