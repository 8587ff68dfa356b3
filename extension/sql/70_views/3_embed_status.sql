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
       coalesce(p.broken_reason, CASE WHEN embed.may_own(p.source) THEN coalesce(g.scan_error, CASE WHEN w.state <> 'reading' OR g.scanning THEN w.note END,
                CASE WHEN l.too_long > 0 THEN pg_catalog.format(
                    '%s rows have a key longer than 2600 bytes and cannot be queued', l.too_long) END,
                j.last_error, f.last_error) END) AS last_error,
       u.calls,
       u.texts,
       u.tokens,
       u.cost,
       u.texts_saved,
       CASE WHEN w.state IS NULL OR (p.capture <> 'cdc' AND w.state <> 'leaving') THEN
                CASE p.capture WHEN 'cdc' THEN 'cdc wanted, slot not there yet' ELSE p.capture END
            WHEN w.state IN ('wanted', 'joining', 'settling') AND k.slot_lag IS NULL THEN 'cdc wanted, slot not there yet'
            ELSE CASE w.state
                WHEN 'wanted' THEN 'cdc wanted, not published yet'
                WHEN 'joining' THEN 'cdc wanted, earlier transactions go on'
                WHEN 'settling' THEN 'cdc wanted, being read'
                WHEN 'reading' THEN CASE WHEN k.slot_lag IS NULL THEN 'cdc, its slot is gone' ELSE 'cdc' END
                WHEN 'leaving' THEN p.capture || ', slot still read'
                ELSE 'trigger, cdc wanted' END
            END AS capture,
       k.slot_lag
FROM embed.pipeline p
LEFT JOIN embed.wal w ON w.pipeline = p.id
LEFT JOIN LATERAL (SELECT embed.slot_lag() AS slot_lag WHERE w.pipeline IS NOT NULL) k ON true
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
COMMENT ON COLUMN @extschema@.embed_status.capture IS
    'how changes are seen: trigger, cdc, manual, or what is between two of them; last_error says what it waits for';
COMMENT ON COLUMN @extschema@.embed_status.slot_lag IS
    'bytes of WAL that the replication slot keeps on disk, for all pipelines of the database; NULL where it is not there';
GRANT SELECT ON @extschema@.embed_status TO PUBLIC;
