CREATE VIEW @extschema@.embed_status WITH (security_barrier) AS
SELECT p.name AS pipeline,
       CASE WHEN p.broken_reason IS NOT NULL THEN 'broken'
            WHEN p.state = 'active' AND embed.is_over_budget(p.id, p.options) THEN 'over budget'
            ELSE p.state END AS state,
       s.source_rows AS rows,
       greatest(d.documents - j.checking, 0) AS fresh,
       j.waiting + l.keys + CASE WHEN g.scanning THEN greatest(s.source_rows - d.documents - j.new - f.failed, 0) ELSE 0 END
           AS pending,
       j.in_flight,
       f.failed,
       pg_catalog.clock_timestamp() - least(j.oldest, l.oldest) AS oldest_pending_age,
       coalesce(p.broken_reason, CASE WHEN embed.may_own(p.source) THEN coalesce(g.scan_error,
                CASE WHEN l.too_long > 0 THEN pg_catalog.format(
                    '%s rows have a key longer than 2600 bytes and cannot be queued', l.too_long) END,
                j.last_error, f.last_error) END) AS last_error,
       u.calls,
       u.texts,
       u.tokens,
       u.cost,
       u.texts_saved,
       CASE WHEN l.restarts THEN 0 WHEN g.started_at IS NOT NULL THEN g.walked END AS backfill_rows,
       CASE WHEN l.restarts THEN 0
            WHEN g.started_at IS NULL THEN NULL
            WHEN g.scanning OR j.backfill > 0
                THEN least(greatest(g.walked - j.backfill, 0)::float8 / greatest(s.source_rows, 1), 0.999)
            ELSE 1 END AS backfill_progress,
       CASE WHEN g.scanning AND g.walked > 0 AND NOT l.restarts AND p.state = 'active' AND p.broken_reason IS NULL
            THEN g.worked * (greatest(s.source_rows - g.walked, 0)::float8 / g.walked) END AS backfill_eta
FROM embed.pipeline p
LEFT JOIN LATERAL (
    SELECT g.id, coalesce(b.running, false) AS scanning, b.walked, b.worked, b.started_at,
           (SELECT c.last_error FROM embed.scan c WHERE c.generation = g.id AND c.running AND c.last_error IS NOT NULL LIMIT 1)
               AS scan_error
    FROM embed.generation g LEFT JOIN embed.scan b ON b.generation = g.id AND b.scope = 'source'
    WHERE g.pipeline = p.id AND g.state = 'active') g ON true
CROSS JOIN LATERAL (SELECT embed.estimate_rows(p.source) AS source_rows) s
CROSS JOIN LATERAL (SELECT count(*) AS documents FROM embed.document d WHERE d.generation = g.id) d
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE e.token IS NULL) AS waiting,
           count(e.token) AS in_flight,
           count(d.key) AS checking,
           count(*) - count(d.key) AS new,
           min(j.changed_at) AS oldest,
           count(*) FILTER (WHERE j.lane = 1) AS backfill,
           (array_agg(j.last_error ORDER BY j.ready_at DESC) FILTER (WHERE j.last_error IS NOT NULL))[1] AS last_error
    FROM embed.job j
    LEFT JOIN embed.document d ON d.generation = j.generation AND d.key = j.key
    LEFT JOIN embed.lease e ON e.token = j.token AND e.expires_at > pg_catalog.clock_timestamp()
    WHERE j.generation = g.id) j
CROSS JOIN LATERAL (
    SELECT count(DISTINCT c.key) AS keys,
           count(DISTINCT c.key) FILTER (WHERE pg_catalog.pg_column_size(c.key) > 2600) AS too_long, min(c.changed_at) AS oldest,
           coalesce(bool_or(c.scope = 'source'), false) AS restarts
    FROM embed.change c
    WHERE c.pipeline = p.id
      AND NOT EXISTS (SELECT FROM embed.job j WHERE j.generation = g.id AND j.key = c.key)) l
CROSS JOIN LATERAL (
    SELECT count(*) AS failed, (array_agg(x.message ORDER BY x.last_at DESC))[1] AS last_error
    FROM embed.failure x WHERE x.generation = g.id) f
CROSS JOIN LATERAL (
    SELECT coalesce(sum(x.calls), 0)::bigint AS calls, coalesce(sum(x.texts), 0)::bigint AS texts,
           coalesce(sum(x.tokens), 0)::bigint AS tokens, sum(x.cost) AS cost,
           coalesce(sum(x.saved_by_fingerprint + x.saved_by_cache + x.saved_by_dedupe), 0)::bigint AS texts_saved
    FROM embed.usage x WHERE x.pipeline = p.id) u
WHERE embed.may_see(p.source);
COMMENT ON VIEW @extschema@.embed_status IS
    'a row a pipeline: how much is fresh, waiting, at a model, given up; rows is an estimate for large tables';
COMMENT ON COLUMN @extschema@.embed_status.fresh IS 'documents up to date as far as the queue knows; embed_verify() proves it';
COMMENT ON COLUMN @extschema@.embed_status.pending IS 'rows that wait for a worker, an estimate while a backfill scans';
COMMENT ON COLUMN @extschema@.embed_status.in_flight IS 'rows that a worker has claimed';
COMMENT ON COLUMN @extschema@.embed_status.last_error IS
    'why something is not fresh; what a model said of a row only to those who administer the pipeline';
COMMENT ON COLUMN @extschema@.embed_status.failed IS 'dead letters: rows given up until they change or are touched';
COMMENT ON COLUMN @extschema@.embed_status.state IS
    'active, paused, broken (last_error says why), or over budget: what may be spent a day is spent, and work goes on at midnight UTC';
COMMENT ON COLUMN @extschema@.embed_status.tokens IS 'as billed where the provider says, else estimated';
COMMENT ON COLUMN @extschema@.embed_status.texts_saved IS 'texts that were not sent: embed_usage says why';
COMMENT ON COLUMN @extschema@.embed_status.backfill_rows IS 'rows that the backfill has come to, counted as it goes';
COMMENT ON COLUMN @extschema@.embed_status.backfill_progress IS
    'the share of the table that the backfill has done, by the estimate of rows; 1 when it is over, NULL where there was none';
COMMENT ON COLUMN @extschema@.embed_status.backfill_eta IS 'time of work that the rest will take at the pace so far; NULL while it is not known';
GRANT SELECT ON @extschema@.embed_status TO PUBLIC;
