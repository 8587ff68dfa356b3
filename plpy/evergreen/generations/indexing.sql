-- without_index(int8): generations that have enough chunks, have ended their backfill, and have no valid index
SELECT g.id, g.pipeline, pg_catalog.pg_table_size(t.oid) AS bytes, i.indexrelid IS NOT NULL AS is_broken
FROM embed.generation g
JOIN pg_catalog.pg_class t ON t.oid = pg_catalog.to_regclass('embed_store.g' || g.id)
JOIN embed.scan s ON s.generation = g.id AND s.scope = 'source' AND NOT s.running
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = pg_catalog.to_regclass('embed_store.g' || g.id || '_embedding_idx')
WHERE i.indisvalid IS NOT TRUE AND g.state <> 'previous'
  AND (SELECT sum(d.chunks) FROM (SELECT d.chunks FROM embed.document d WHERE d.generation = g.id LIMIT $1) d) >= $1

-- create(): a plain index
{statement}

-- drop(): what a failed CREATE INDEX CONCURRENTLY left
DROP INDEX IF EXISTS embed_store.{name}

-- is_under_way(text): is an index of this table being made
SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.relid = pg_catalog.to_regclass($1))

-- database(): where we are
SELECT pg_catalog.current_database()::text

-- has_cron(): does pg_cron run jobs for this database
SELECT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_cron')
   AND pg_catalog.current_setting('cron.database_name', true) = pg_catalog.current_database()

-- is_scheduled(text): is the index being made
SELECT EXISTS (SELECT FROM cron.job j WHERE j.jobname = $1)

-- schedule(text, text): from the next minute on, until it is there
SELECT cron.schedule($1, '* * * * *', $2)

-- unschedule_done(): jobs whose index is there, or whose generation is gone
SELECT cron.unschedule(j.jobid)
FROM cron.job j
WHERE j.database = pg_catalog.current_database()
  AND j.jobname LIKE 'evergreen index ' || pg_catalog.current_database() || ' g%'
  AND (pg_catalog.to_regclass('embed_store.' || pg_catalog.substring(j.jobname, 'g[0-9]+$')) IS NULL
       OR EXISTS (SELECT FROM pg_catalog.pg_index i
                  WHERE i.indisvalid AND i.indexrelid = pg_catalog.to_regclass(
                      'embed_store.' || pg_catalog.substring(j.jobname, 'g[0-9]+$') || '_embedding_idx')))
