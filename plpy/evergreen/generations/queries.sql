-- lock_pipeline(int4): keeps other sessions from building, promoting or retiring a generation of this pipeline.
-- Does not lock the pipeline's own row, so it can be paused and altered meanwhile.
SELECT FROM embed.generation g WHERE g.pipeline = $1 ORDER BY g.id FOR NO KEY UPDATE

-- wait_for_writers(): waits for running writers, which still use the old capture function and miss newly watched columns.
-- The backfill reads the source after they end, and later writers use the new function.
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE

-- sample_texts(int4): texts of randomly chosen rows of the generation
SELECT pg_catalog."left"(c.chunk, 500) AS chunk
FROM (SELECT b.low + pg_catalog.floor(pg_catalog.random() * (b.high - b.low + 1))::bigint AS place
      FROM (SELECT min(g.document) AS low, max(g.document) AS high FROM {table} g) b, pg_catalog.generate_series(1, $1)
      OFFSET 0) p
CROSS JOIN LATERAL (SELECT g.chunk FROM {table} g WHERE g.document >= p.place ORDER BY g.document, g.id LIMIT 1) c

-- visible_texts(int4): texts of rows that the caller may see
SELECT pg_catalog."left"(v.chunk, 500) AS chunk FROM {view} v LIMIT $1

-- visible_keys(jsonb[]): those of these keys whose rows the caller may see
SELECT DISTINCT v.key::pg_catalog.text AS key FROM {view} v WHERE v.key = ANY ($1)

-- nearest({vector}, int4): keys of the chunks nearest to a vector, excluding blank chunks
SELECT g.key::pg_catalog.text AS key FROM {table} g WHERE {not_blank} ORDER BY {distance} LIMIT $2

-- coverage(int4, int4): documents of the active generation, and how many of them the other generation has; excludes dead
-- letters
SELECT count(*) AS keys, count(b.key) AS covered
FROM embed.document a
LEFT JOIN embed.document b ON b.generation = $2 AND b.key = a.key
WHERE a.generation = $1
  AND NOT EXISTS (SELECT FROM embed.failure f WHERE f.generation = $1 AND f.key = a.key)
  AND NOT EXISTS (SELECT FROM embed.failure f WHERE f.generation = $2 AND f.key = a.key)

-- without_index(int8): generations with enough chunks, a finished backfill and no valid index.
-- No function here may lock a table: its owner may be dropping the pipeline in a transaction left open.
SELECT g.id, g.pipeline
FROM embed.generation g
JOIN pg_catalog.pg_class t ON t.oid = pg_catalog.to_regclass('embed_store.g' || g.id)
JOIN embed.backfill_cursor s ON s.generation = g.id AND s.scope = 'source' AND NOT s.running
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = pg_catalog.to_regclass('embed_store.g' || g.id || '_embedding_idx')
WHERE i.indisvalid IS NOT TRUE AND g.state <> 'previous'
  AND (SELECT sum(d.chunks) FROM (SELECT d.chunks FROM embed.document d WHERE d.generation = g.id LIMIT $1) d) >= $1

-- unmeasured(float8): generations whose index was not measured yet, or a day ago, or with half of its chunks, or for another target;
-- $1: the default target
SELECT g.id, g.pipeline
FROM embed.generation g
JOIN pg_catalog.pg_index i ON i.indexrelid = pg_catalog.to_regclass('embed_store.g' || g.id || '_embedding_idx') AND i.indisvalid
LEFT JOIN embed.index_recall r ON r.generation = g.id
WHERE g.state <> 'previous'
  AND (r.generation IS NULL OR r.index <> i.indexrelid
       OR r.measured_at < pg_catalog.clock_timestamp() - '1 day'::pg_catalog.interval
       OR r.target <> coalesce((g.options ->> 'recall_target')::pg_catalog.float8, $1)
       OR embed.estimate_chunks(g.id) > 2 * r.chunks)

-- with_index(): generations with a valid index whose size per chunk is known
SELECT g.id, g.pipeline
FROM embed.generation g
JOIN pg_catalog.pg_index i ON i.indexrelid = pg_catalog.to_regclass('embed_store.g' || g.id || '_embedding_idx') AND i.indisvalid
JOIN embed.index_recall r ON r.generation = g.id AND r.index = i.indexrelid AND r.bytes_per_chunk IS NOT NULL
WHERE g.state <> 'previous'

-- is_bloated(int4, float8, int8): whether a generation's index is so many times as large as when it was new, and of a size that
-- matters
SELECT s.bytes > $3 AND s.bytes > $2 * r.bytes_per_chunk * embed.estimate_chunks($1) AS is_bloated
FROM embed.index_recall r
CROSS JOIN LATERAL (SELECT pg_catalog.pg_relation_size(r.index) AS bytes OFFSET 0) s
WHERE r.generation = $1

-- is_vacuum_running(text): whether a table is being vacuumed
SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.relid = pg_catalog.to_regclass($1))

-- rename_index(): the new index takes the place of the one that was dropped
ALTER INDEX embed_store.{new} RENAME TO {name}

-- missing_index(int4, int8): whether a generation should have an index and has none
SELECT c.chunks
FROM (SELECT embed.estimate_chunks($1) AS chunks) c
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = pg_catalog.to_regclass('embed_store.g' || $1 || '_embedding_idx')
WHERE c.chunks >= $2 AND i.indisvalid IS NOT TRUE

-- find_generation(int4): a generation, by its id
SELECT g.id, g.pipeline FROM embed.generation g WHERE g.id = $1

-- without_keyword_index(int8, text): like without_index, for the full-text index; $2: the default language
SELECT w.id, w.pipeline, w.name
FROM (SELECT g.id, g.pipeline, t.oid, s.running,
             'g' || g.id || '_words_' || pg_catalog."left"(pg_catalog.md5(coalesce(p.options ->> 'language', $2)), 8) || '_idx' AS name
      FROM embed.generation g
      JOIN embed.pipeline p ON p.id = g.pipeline AND p.options -> 'language' IS DISTINCT FROM 'null'
      JOIN pg_catalog.pg_class t ON t.oid = pg_catalog.to_regclass('embed_store.g' || g.id)
      JOIN embed.backfill_cursor s ON s.generation = g.id AND s.scope = 'source'
      WHERE g.state <> 'previous' AND NOT s.running) w
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = pg_catalog.to_regclass('embed_store.' || w.name)
WHERE i.indisvalid IS NOT TRUE
  AND (SELECT sum(d.chunks) FROM (SELECT d.chunks FROM embed.document d WHERE d.generation = w.id LIMIT $1) d) >= $1

-- outdated_keyword_indexes(text): full-text indexes for a language that the pipeline no longer has; $1: the default language
SELECT g.id, g.pipeline, c.relname::text AS name
FROM embed.generation g
JOIN embed.pipeline p ON p.id = g.pipeline
JOIN pg_catalog.pg_index i ON i.indrelid = pg_catalog.to_regclass('embed_store.g' || g.id)
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid AND pg_catalog.starts_with(c.relname::text, 'g' || g.id || '_words_')
WHERE p.options -> 'language' = 'null'
   OR c.relname <>
      'g' || g.id || '_words_' || pg_catalog."left"(pg_catalog.md5(coalesce(p.options ->> 'language', $1)), 8) || '_idx'

-- with_statistics(): full-text indexes for which ANALYZE stores lexemes, or may
SELECT g.id, g.pipeline, c.relname::text AS name
FROM embed.generation g
JOIN pg_catalog.pg_index i ON i.indrelid = pg_catalog.to_regclass('embed_store.g' || g.id)
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid AND pg_catalog.starts_with(c.relname::text, 'g' || g.id || '_words_')
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1
WHERE a.attstattarget IS DISTINCT FROM 0

-- no_statistics(): ANALYZE skips the column from now on
ALTER INDEX embed_store.{name} ALTER COLUMN 1 SET STATISTICS 0

-- forget_statistics(text): deletes what ANALYZE stored earlier
DELETE FROM pg_catalog.pg_statistic s WHERE s.starelid = pg_catalog.to_regclass('embed_store.' || $1)

-- create_index(): a plain index
{statement}

-- drop_index(): removes the remains of a failed CREATE INDEX CONCURRENTLY, or a bloated index
DROP INDEX IF EXISTS embed_store.{name}

-- table_size(text): size of a table and its TOAST; locks it only briefly
SELECT pg_catalog.pg_table_size(pg_catalog.to_regclass($1))

-- limit_index_build(text): until the step ends, index builds use this process alone, and at most this much memory
SELECT pg_catalog.set_config('max_parallel_maintenance_workers', '0', true),
       CASE WHEN pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem')) > pg_catalog.pg_size_bytes($1)
            THEN pg_catalog.set_config('maintenance_work_mem', $1, true) END

-- disable_parallel_builds(): index builds on this table use one process, in any session
ALTER TABLE {table} SET (parallel_workers = 0)

-- is_index_invalid(text): whether an index of this name is invalid
SELECT EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE NOT i.indisvalid AND i.indexrelid = pg_catalog.to_regclass('embed_store.' || $1))

-- is_index_building(text): whether an index of this table is being built
SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.relid = pg_catalog.to_regclass($1))

-- scheduled_job(text): the job that builds the index
SELECT j.jobid FROM cron.job j WHERE j.jobname = $1 AND j.database = pg_catalog.current_database()

-- last_job_failure(int8): why the last run of a job failed, if it did
SELECT CASE WHEN d.status = 'failed' THEN coalesce(d.return_message, 'CREATE INDEX failed in pg_cron') END
FROM cron.job_run_details d
WHERE d.jobid = $1 AND d.status IN ('succeeded', 'failed') ORDER BY d.runid DESC LIMIT 1

-- unschedule(int8): postpones the build
SELECT cron.unschedule($1)

-- schedule(text, text): runs every minute until the index exists
SELECT cron.schedule($1, '* * * * *', $2)

-- unschedule_finished(text): removes jobs, whose names begin so, whose index exists or whose generation is dropped
SELECT cron.unschedule(j.jobid)
FROM (SELECT c.jobid, pg_catalog.substring(c.jobname, 'g[0-9]+[a-z0-9_]*$') AS name
      FROM cron.job c
      WHERE c.database = pg_catalog.current_database()
        AND pg_catalog.starts_with(c.jobname, $1)) j
WHERE pg_catalog.to_regclass('embed_store.' || pg_catalog.substring(j.name, '^g[0-9]+')) IS NULL
   OR EXISTS (SELECT FROM pg_catalog.pg_index i
              WHERE i.indisvalid AND i.indexrelid = pg_catalog.to_regclass('embed_store.' || j.name))

-- delete_generation(int4): the generation itself
DELETE FROM embed.generation WHERE id = $1

-- expired_generations(text): previous generations kept longer than previous_kept
SELECT g.id, g.pipeline FROM embed.generation g JOIN embed.pipeline p ON p.id = g.pipeline
WHERE g.state = 'previous'
  AND g.since < pg_catalog.clock_timestamp() - coalesce(p.options ->> 'previous_kept', $1)::pg_catalog.interval

-- lock_previous(int4): locks a generation that is still previous; skipped while another session promotes or retires it
SELECT FROM embed.generation g WHERE g.id = $1 AND g.state = 'previous' FOR NO KEY UPDATE SKIP LOCKED

-- set_state(int4, text): sets the state: building, active or previous
UPDATE embed.generation SET state = $2, since = pg_catalog.clock_timestamp() WHERE id = $1
