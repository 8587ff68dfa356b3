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
       pg_catalog.make_interval(secs => 0.001 * pg_catalog.power(2::float8, w.p50 / 4.0::float8)) AS lag_p50,
       pg_catalog.make_interval(secs => 0.001 * pg_catalog.power(2::float8, w.p95 / 4.0::float8)) AS lag_p95,
       pg_catalog.make_interval(secs => 0.001 * pg_catalog.power(2::float8, w.p99 / 4.0::float8)) AS lag_p99
FROM embed.pipeline p
LEFT JOIN LATERAL (
    SELECT g.id, coalesce((SELECT c.running FROM embed.scan c WHERE c.generation = g.id AND c.scope = 'source'), false)
               AS scanning,
           (SELECT c.last_error FROM embed.scan c WHERE c.generation = g.id AND c.running AND c.last_error IS NOT NULL LIMIT 1)
               AS scan_error
    FROM embed.generation g WHERE g.pipeline = p.id AND g.state = 'active') g ON true
CROSS JOIN LATERAL (SELECT embed.estimate_rows(p.source) AS source_rows) s
CROSS JOIN LATERAL (SELECT count(*) AS documents FROM embed.document d WHERE d.generation = g.id) d
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE e.token IS NULL) AS waiting,
           count(e.token) AS in_flight,
           count(d.key) AS checking,
           count(*) - count(d.key) AS new,
           min(j.changed_at) AS oldest,
           (array_agg(j.last_error ORDER BY j.ready_at DESC) FILTER (WHERE j.last_error IS NOT NULL))[1] AS last_error
    FROM embed.job j
    LEFT JOIN embed.document d ON d.generation = j.generation AND d.key = j.key
    LEFT JOIN embed.lease e ON e.token = j.token AND e.expires_at > pg_catalog.clock_timestamp()
    WHERE j.generation = g.id) j
CROSS JOIN LATERAL (
    SELECT count(DISTINCT c.key) AS keys,
           count(DISTINCT c.key) FILTER (WHERE pg_catalog.pg_column_size(c.key) > 2600) AS too_long, min(c.changed_at) AS oldest
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
CROSS JOIN LATERAL (
    SELECT min(b.bucket) FILTER (WHERE b.up_to >= b.total * 0.5) AS p50,
           min(b.bucket) FILTER (WHERE b.up_to >= b.total * 0.95) AS p95,
           min(b.bucket) FILTER (WHERE b.up_to >= b.total * 0.99) AS p99
    FROM (SELECT h.bucket, sum(sum(h.count)) OVER (ORDER BY h.bucket) AS up_to, sum(sum(h.count)) OVER () AS total
          FROM embed.lag x CROSS JOIN LATERAL unnest(x.buckets, x.counts) h (bucket, count)
          WHERE x.pipeline = p.id AND x.at > pg_catalog.clock_timestamp() - '1 h'::interval
          GROUP BY h.bucket) b) w
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
COMMENT ON COLUMN @extschema@.embed_status.lag_p50 IS
    'from a live change to its being searchable, in the last hour: half of them took no longer. Rounded up by at most a fifth '
    '(four buckets to a doubling); counted from the statement that changed the row, so a long transaction counts in';
COMMENT ON COLUMN @extschema@.embed_status.lag_p95 IS 'as lag_p50, of 95 in a hundred';
COMMENT ON COLUMN @extschema@.embed_status.lag_p99 IS 'as lag_p50, of 99 in a hundred';
GRANT SELECT ON @extschema@.embed_status TO PUBLIC;
