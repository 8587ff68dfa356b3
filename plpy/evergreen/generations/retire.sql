-- delete_work(int4): everything that waits or was done for a generation
WITH jobs AS (DELETE FROM embed.job WHERE generation = $1),
     leases AS (DELETE FROM embed.lease WHERE generation = $1),
     scans AS (DELETE FROM embed.scan WHERE generation = $1),
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
