-- lock_pipeline(int4): nobody else begins, promotes or retires a generation of this pipeline now. Not the pipeline's own row: it may
-- be paused and altered meanwhile
SELECT FROM embed.generation g WHERE g.pipeline = $1 ORDER BY g.id FOR NO KEY UPDATE

-- wait_for_writers(): whoever writes now does it by the old capture function, which does not look at all columns that are
-- watched from now on; the backfill reads the source after those have ended, and whoever comes later has the new one
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE

-- some_texts(int4): of rows that stand anywhere in the generation
SELECT pg_catalog."left"(c.chunk, 500) AS chunk
FROM (SELECT b.low + pg_catalog.floor(pg_catalog.random() * (b.high - b.low + 1))::bigint AS place
      FROM (SELECT min(g.document) AS low, max(g.document) AS high FROM {table} g) b, pg_catalog.generate_series(1, $1)
      OFFSET 0) p
CROSS JOIN LATERAL (SELECT g.chunk FROM {table} g WHERE g.document >= p.place ORDER BY g.document, g.id LIMIT 1) c

-- visible_texts(int4): of rows that whoever asks may see
SELECT pg_catalog."left"(v.chunk, 500) AS chunk FROM {view} v LIMIT $1

-- visible_keys(jsonb[]): of these keys, those of rows that whoever asks may see
SELECT DISTINCT v.key::pg_catalog.text AS key FROM {view} v WHERE v.key = ANY ($1)

-- nearest({vector}, int4): the keys of the chunks nearest to a vector, but for those that are near nothing
SELECT g.key::pg_catalog.text AS key FROM {table} g WHERE {not_blank} ORDER BY {distance} LIMIT $2

-- coverage(int4, int4): documents of the active generation, and those of them that the other one has; no dead letters
SELECT count(*) AS keys, count(b.key) AS covered
FROM embed.document a
LEFT JOIN embed.document b ON b.generation = $2 AND b.key = a.key
WHERE a.generation = $1
  AND NOT EXISTS (SELECT FROM embed.failure f WHERE f.generation = $1 AND f.key = a.key)
  AND NOT EXISTS (SELECT FROM embed.failure f WHERE f.generation = $2 AND f.key = a.key)

-- without_index(int8): generations that have enough chunks, have ended their backfill, and have no valid index
-- No function here may lock a table: its owner may be dropping the pipeline in a transaction left open.
SELECT g.id, g.pipeline
FROM embed.generation g
JOIN pg_catalog.pg_class t ON t.oid = pg_catalog.to_regclass('embed_store.g' || g.id)
JOIN embed.backfill_cursor s ON s.generation = g.id AND s.scope = 'source' AND NOT s.running
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = pg_catalog.to_regclass('embed_store.g' || g.id || '_embedding_idx')
WHERE i.indisvalid IS NOT TRUE AND g.state <> 'previous'
  AND (SELECT sum(d.chunks) FROM (SELECT d.chunks FROM embed.document d WHERE d.generation = g.id LIMIT $1) d) >= $1

-- lacks(int4, int8): a generation that should have an index and has none
SELECT c.chunks
FROM (SELECT embed.estimate_chunks($1) AS chunks) c
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = pg_catalog.to_regclass('embed_store.g' || $1 || '_embedding_idx')
WHERE c.chunks >= $2 AND i.indisvalid IS NOT TRUE

-- pipeline_of(int4): a generation, by its number
SELECT g.id, g.pipeline FROM embed.generation g WHERE g.id = $1

-- without_words(int8): the same of the index over words, which a pipeline with a language has
SELECT w.id, w.pipeline, w.name
FROM (SELECT g.id, g.pipeline, t.oid, s.running,
             'g' || g.id || '_words_' || pg_catalog."left"(pg_catalog.md5(p.options ->> 'language'), 8) || '_idx' AS name
      FROM embed.generation g
      JOIN embed.pipeline p ON p.id = g.pipeline AND p.options ? 'language'
      JOIN pg_catalog.pg_class t ON t.oid = pg_catalog.to_regclass('embed_store.g' || g.id)
      JOIN embed.backfill_cursor s ON s.generation = g.id AND s.scope = 'source'
      WHERE g.state <> 'previous' AND NOT s.running) w
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = pg_catalog.to_regclass('embed_store.' || w.name)
WHERE i.indisvalid IS NOT TRUE
  AND (SELECT sum(d.chunks) FROM (SELECT d.chunks FROM embed.document d WHERE d.generation = w.id LIMIT $1) d) >= $1

-- other_words(): indexes over words of another language than the pipeline's, or of one that has none any more
SELECT g.id, g.pipeline, c.relname::text AS name
FROM embed.generation g
JOIN embed.pipeline p ON p.id = g.pipeline
JOIN pg_catalog.pg_index i ON i.indrelid = pg_catalog.to_regclass('embed_store.g' || g.id)
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid AND pg_catalog.starts_with(c.relname::text, 'g' || g.id || '_words_')
WHERE c.relname IS DISTINCT FROM
      'g' || g.id || '_words_' || pg_catalog."left"(pg_catalog.md5(p.options ->> 'language'), 8) || '_idx'

-- with_statistics(): indexes over words of which ANALYZE might keep some, or has kept
SELECT g.id, g.pipeline, c.relname::text AS name
FROM embed.generation g
JOIN pg_catalog.pg_index i ON i.indrelid = pg_catalog.to_regclass('embed_store.g' || g.id)
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid AND pg_catalog.starts_with(c.relname::text, 'g' || g.id || '_words_')
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1
WHERE a.attstattarget IS DISTINCT FROM 0

-- no_statistics(): ANALYZE leaves it alone from now on
ALTER INDEX embed_store.{name} ALTER COLUMN 1 SET STATISTICS 0

-- forget_statistics(text): what it has kept before
DELETE FROM pg_catalog.pg_statistic s WHERE s.starelid = pg_catalog.to_regclass('embed_store.' || $1)

-- create(): a plain index
{statement}

-- drop(): what a failed CREATE INDEX CONCURRENTLY left
DROP INDEX IF EXISTS embed_store.{name}

-- bytes(text): the size of a table and its TOAST, so that it is locked for an instant
SELECT pg_catalog.pg_table_size(pg_catalog.to_regclass($1))

-- modestly(text): to the end of the step, indexes are built by this process alone, with no more memory than that
SELECT pg_catalog.set_config('max_parallel_maintenance_workers', '0', true),
       CASE WHEN pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem')) > pg_catalog.pg_size_bytes($1)
            THEN pg_catalog.set_config('maintenance_work_mem', $1, true) END

-- serially(): indexes on this table are built by one process, whoever builds them
ALTER TABLE {table} SET (parallel_workers = 0)

-- is_broken(text): is there an index of this name that is none
SELECT EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE NOT i.indisvalid AND i.indexrelid = pg_catalog.to_regclass('embed_store.' || $1))

-- is_under_way(text): is an index of this table being made
SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.relid = pg_catalog.to_regclass($1))

-- database(): where we are
SELECT pg_catalog.current_database()::text

-- scheduled(text): the job that makes the index
SELECT j.jobid FROM cron.job j WHERE j.jobname = $1 AND j.database = pg_catalog.current_database()

-- last_failure(int8): what the last run of a job died of, if it did
SELECT CASE WHEN d.status = 'failed' THEN coalesce(d.return_message, 'CREATE INDEX failed in pg_cron') END
FROM cron.job_run_details d
WHERE d.jobid = $1 AND d.status IN ('succeeded', 'failed') ORDER BY d.runid DESC LIMIT 1

-- unschedule(int8): it waits
SELECT cron.unschedule($1)

-- schedule(text, text): from the next minute on, until it is there
SELECT cron.schedule($1, '* * * * *', $2)

-- unschedule_done(): jobs whose index is there, or whose generation is gone
SELECT cron.unschedule(j.jobid)
FROM (SELECT c.jobid, pg_catalog.substring(c.jobname, 'g[0-9]+[a-z0-9_]*$') AS name
      FROM cron.job c
      WHERE c.database = pg_catalog.current_database()
        AND c.jobname LIKE 'evergreen index ' || pg_catalog.current_database() || ' g%') j
WHERE pg_catalog.to_regclass('embed_store.' || pg_catalog.substring(j.name, '^g[0-9]+')) IS NULL
   OR EXISTS (SELECT FROM pg_catalog.pg_index i
              WHERE i.indisvalid AND i.indexrelid = pg_catalog.to_regclass('embed_store.' || j.name))

-- delete_work(int4): everything that waits or was done for a generation
WITH jobs AS (DELETE FROM embed.job WHERE generation = $1),
     leases AS (DELETE FROM embed.lease WHERE generation = $1),
     cursors AS (DELETE FROM embed.backfill_cursor WHERE generation = $1),
     failures AS (DELETE FROM embed.failure WHERE generation = $1)
DELETE FROM embed.document WHERE generation = $1

-- delete(int4): the generation itself
DELETE FROM embed.generation WHERE id = $1

-- overdue(text): previous generations that were kept long enough
SELECT g.id, g.pipeline FROM embed.generation g JOIN embed.pipeline p ON p.id = g.pipeline
WHERE g.state = 'previous'
  AND g.since < pg_catalog.clock_timestamp() - coalesce(p.options ->> 'previous_kept', $1)::pg_catalog.interval

-- hold_previous(int4): it still is; whoever promotes or retires just now has its row
SELECT FROM embed.generation g WHERE g.id = $1 AND g.state = 'previous' FOR NO KEY UPDATE SKIP LOCKED

-- set_state(int4, text): building, active or previous, from now on
UPDATE embed.generation SET state = $2, since = pg_catalog.clock_timestamp() WHERE id = $1
