CREATE VIEW @extschema@.embed_status WITH (security_barrier) AS
SELECT p.name AS pipeline,
       CASE WHEN p.broken_reason IS NOT NULL OR v.missing_part IS NOT NULL THEN 'broken'
            WHEN p.state = 'active' AND x.change IS NOT NULL THEN 'model changed'
            WHEN o.late_since IS NOT NULL THEN 'late'
            WHEN p.state = 'active' AND y.budgets <> '{}' THEN 'over budget'
            ELSE p.state END AS state,
       s.source_rows AS rows,
       c.fresh,
       j.waiting + l.keys + CASE WHEN g.scanning OR l.restarts THEN 0 ELSE d.lost END
           + CASE WHEN g.scanning THEN greatest(s.source_rows - d.documents - j.new - l.new - f.failed, 0) ELSE 0 END AS pending,
       j.in_flight,
       f.failed,
       pg_catalog.clock_timestamp() - least(j.oldest, l.oldest, h.oldest) AS oldest_pending_age,
       coalesce(v.missing_part, p.broken_reason, CASE WHEN embed.may_own(p.source) THEN coalesce(g.scan_error, h.last_error, CASE WHEN w.state <> 'streaming' OR g.scanning THEN w.note END,
                CASE WHEN l.too_long > 0 THEN pg_catalog.format(
                    '%s rows have a key longer than 2600 bytes and cannot be queued', l.too_long) END,
                CASE WHEN d.lost > 0 THEN pg_catalog.format(
                    'the vectors of %s rows are missing from embed_store.g%s; a worker queues these rows', d.lost, g.id) END,
                CASE WHEN p.state = 'active' THEN x.change END,
                CASE WHEN p.state = 'active' AND (j.waiting + j.in_flight + l.keys > 0 OR g.scanning) THEN coalesce(
                    CASE WHEN y.budgets <> '{}' THEN pg_catalog.format('the pipeline''s daily budget is spent (%s); days are UTC',
                                                                       pg_catalog.array_to_string(y.budgets, ', ')) END,
                    j.last_error, m.trouble) END,
                f.last_error, i.maintenance_error) END) AS last_error,
       u.calls,
       u.texts,
       u.tokens,
       u.cost,
       u.texts_saved,
       CASE WHEN l.restarts THEN 0 WHEN g.started_at IS NOT NULL THEN g.visited END AS backfill_rows,
       CASE WHEN l.restarts THEN 0
            WHEN g.started_at IS NULL THEN NULL
            WHEN g.scanning OR j.backfill > 0
                THEN least(greatest(g.visited - j.backfill, 0)::float8 / greatest(s.source_rows, 1), 0.999)
            ELSE 1 END AS backfill_progress,
       CASE WHEN g.scanning AND g.visited > 0 AND NOT l.restarts AND p.state = 'active' AND p.broken_reason IS NULL
            THEN g.active_time * (greatest(s.source_rows - g.visited, 0)::float8 / g.visited) END AS backfill_eta,
       CASE WHEN s.source_rows = 0 THEN 1 ELSE least(c.fresh::float8 / s.source_rows, 1) END AS coverage,
       t.p50 AS lag_p50,
       t.p95 AS lag_p95,
       t.p99 AS lag_p99,
       CASE WHEN w.state IS NULL OR (p.capture <> 'cdc' AND w.state <> 'draining') THEN
                CASE p.capture WHEN 'cdc' THEN 'cdc wanted, slot not there yet' ELSE p.capture END
            WHEN w.state IN ('pending', 'published', 'catching_up') AND k.slot_lag IS NULL THEN 'cdc wanted, slot not there yet'
            ELSE CASE w.state
                WHEN 'pending' THEN 'cdc wanted, not published yet'
                WHEN 'published' THEN 'cdc wanted, earlier transactions go on'
                WHEN 'catching_up' THEN 'cdc wanted, being read'
                WHEN 'streaming' THEN CASE WHEN k.slot_lag IS NULL THEN 'cdc, its slot is gone' ELSE 'cdc' END
                WHEN 'draining' THEN p.capture || ', slot still read'
                ELSE 'trigger, cdc wanted' END
            END AS capture,
       k.slot_lag,
       t.live_p50 AS live_lag_p50,
       t.live_p95 AS live_lag_p95,
       t.live_p99 AS live_lag_p99,
       t.bulk_p50 AS bulk_lag_p50,
       t.bulk_p95 AS bulk_lag_p95,
       t.bulk_p99 AS bulk_lag_p99,
       y.budgets AS spent_budgets,
       CASE WHEN embed.may_own(p.source) THEN i.maintenance_error END AS maintenance_error,
       o.late_since,
       z.in_batch
FROM embed.pipeline p
CROSS JOIN (SELECT pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE') AS is_admin) r
LEFT JOIN LATERAL (SELECT pg_catalog.concat_ws(': ', t.what, t.remedy) AS missing_part FROM embed.missing_part(p.id) t
                   WHERE t.what IS NOT NULL) v ON true
LEFT JOIN embed.wal w ON w.pipeline = p.id
LEFT JOIN LATERAL (SELECT embed.slot_lag() AS slot_lag WHERE w.pipeline IS NOT NULL) k ON true
LEFT JOIN LATERAL (
    SELECT g.id, g.model, g.model_revision, coalesce(b.running, false) AS scanning, b.visited, b.active_time, b.started_at,
           (SELECT c.last_error FROM embed.backfill_cursor c WHERE c.generation = g.id AND c.running AND c.last_error IS NOT NULL LIMIT 1)
               AS scan_error
    FROM embed.generation g LEFT JOIN embed.backfill_cursor b ON b.generation = g.id AND b.scope = 'source'
    WHERE g.pipeline = p.id AND g.state = 'active') g ON true
-- OFFSET 0: each function is called once a row, not once for each column that shows its result.
CROSS JOIN LATERAL (SELECT embed.spent_budgets(p.id, p.options) AS budgets OFFSET 0) y
CROSS JOIN LATERAL (SELECT embed.model_problem(g.model) AS trouble OFFSET 0) m
CROSS JOIN LATERAL (SELECT CASE WHEN p.options ->> 'on_model_change' IS DISTINCT FROM 'warn'
                                THEN embed.model_change(g.model, g.model_revision) END AS change OFFSET 0) x
CROSS JOIN LATERAL (SELECT CASE WHEN p.state = 'active' AND p.options ? 'max_lag'
                                THEN embed.late_since(p.id, g.id, p.options) END AS late_since OFFSET 0) o
CROSS JOIN LATERAL (SELECT embed.maintenance_problem(p.id, g.id, r.is_admin) AS maintenance_error OFFSET 0) i
CROSS JOIN LATERAL (SELECT embed.estimate_rows(p.source) AS source_rows OFFSET 0) s
CROSS JOIN LATERAL (SELECT embed.documents(g.id) - x.lost AS documents, x.lost
                    FROM (SELECT embed.documents_without_vectors(p.id, g.id) AS lost OFFSET 0) x OFFSET 0) d
CROSS JOIN LATERAL embed.job_figures(g.id, p.id, m.trouble IS NOT NULL) j
CROSS JOIN LATERAL embed.change_log_figures(p.id, g.id) l
CROSS JOIN LATERAL (SELECT min(l.changed_at) AS oldest, max(l.last_error) AS last_error
                    FROM (SELECT l.changed_at, l.last_error FROM embed.link_cursor l WHERE l.pipeline = p.id ORDER BY l.moved_at LIMIT 1000) l) h
CROSS JOIN LATERAL embed.failure_figures(g.id, p.id) f
CROSS JOIN LATERAL (SELECT embed.rows_in_batch(g.id) AS in_batch OFFSET 0) z
CROSS JOIN LATERAL (SELECT greatest(d.documents - j.checking - l.checking - f.emptied, 0) AS fresh) c
-- Not for roles that only read or write the table: what their own rows cost would tell which texts other rows have.
LEFT JOIN LATERAL embed.usage_totals(p.id, r.is_admin) u ON embed.may_own(p.source)
CROSS JOIN LATERAL embed.lag_percentiles(p.id) t
WHERE embed.may_see(p.source);
COMMENT ON VIEW @extschema@.embed_status IS
    'one row per pipeline: how many rows are fresh, pending, in flight or failed. Cheap enough to poll: documents, calls and '
    'lags are counters, and rows is the planner''s estimate for a large table. If a queue is longer than 5,000 rows, the '
    'first 5,000 are examined and its length is the planner''s estimate';
COMMENT ON COLUMN @extschema@.embed_status.rows IS
    'rows of the table: counted below 4 MB (64 MB if never analyzed), otherwise an estimate';
COMMENT ON COLUMN @extschema@.embed_status.coverage IS 'fresh / rows';
COMMENT ON COLUMN @extschema@.embed_status.fresh IS
    'documents that are up to date as far as the queue knows; embed_verify() proves it';
COMMENT ON COLUMN @extschema@.embed_status.pending IS 'rows waiting for a worker, or for a batch; an estimate during a backfill';
COMMENT ON COLUMN @extschema@.embed_status.in_flight IS 'rows that a worker has claimed';
COMMENT ON COLUMN @extschema@.embed_status.in_batch IS
    'of the pending rows, those whose text is in a batch at the provider: see embed_batches and option backfill_via';
COMMENT ON COLUMN @extschema@.embed_status.last_error IS
    'current reason why rows are not fresh; NULL if rows only wait for their turn or for embed_resume(); otherwise the last '
    'maintenance failure. Only those who administer the pipeline see what a model reported about a row';
COMMENT ON COLUMN @extschema@.embed_status.failed IS 'dead letters: rows given up until they change or are touched';
COMMENT ON COLUMN @extschema@.embed_status.state IS
    'the first that applies of: broken (see last_error); paused; model changed: another model is served under its name than '
    'made the vectors, and no vector is written until it is back, accepted or rebuilt; late: a live change has been waiting for '
    'longer than option max_lag (see late_since); over budget: the daily budget is spent, and work resumes at midnight UTC; active';
COMMENT ON COLUMN @extschema@.embed_status.tokens IS
    'as billed if the provider reports it, otherwise estimated; always an estimate except for embed_admin';
COMMENT ON COLUMN @extschema@.embed_status.texts_saved IS
    'texts that were not sent; embed_usage shows why. This, calls, texts, tokens and cost are NULL if you do not administer '
    'the pipeline';
COMMENT ON COLUMN @extschema@.embed_status.lag_p50 IS
    'time from a committed change until it is searchable, over the last hour: median. Counts live and bulk changes, not '
    'history (backfill, rebuild). Rounded up by at most a fifth; measured from the statement that changed the row (with '
    'capture cdc, from the commit), for several changes from the oldest that was not searchable yet. Rows still waiting are '
    'in oldest_pending_age, dead letters in failed';
COMMENT ON COLUMN @extschema@.embed_status.lag_p95 IS 'like lag_p50, 95th percentile';
COMMENT ON COLUMN @extschema@.embed_status.lag_p99 IS 'like lag_p50, 99th percentile';
COMMENT ON COLUMN @extschema@.embed_status.live_lag_p50 IS
    'like lag_p50, for the live lane only: changes by transactions that changed up to 1,000 rows';
COMMENT ON COLUMN @extschema@.embed_status.live_lag_p95 IS 'like live_lag_p50, 95th percentile';
COMMENT ON COLUMN @extschema@.embed_status.live_lag_p99 IS 'like live_lag_p50, 99th percentile';
COMMENT ON COLUMN @extschema@.embed_status.bulk_lag_p50 IS
    'like lag_p50, for the backfill lane only: changes by transactions that changed more than 1,000 rows, unless option '
    'bulk_lane is live';
COMMENT ON COLUMN @extschema@.embed_status.bulk_lag_p95 IS 'like bulk_lag_p50, 95th percentile';
COMMENT ON COLUMN @extschema@.embed_status.bulk_lag_p99 IS 'like bulk_lag_p50, 99th percentile';
COMMENT ON COLUMN @extschema@.embed_status.spent_budgets IS 'which of daily_tokens and daily_cost are spent today (UTC)';
COMMENT ON COLUMN @extschema@.embed_status.backfill_rows IS 'rows the backfill has visited so far';
COMMENT ON COLUMN @extschema@.embed_status.backfill_progress IS
    'share of the table that the backfill has visited, based on the estimate of rows; 1 when done, NULL if there was none';
COMMENT ON COLUMN @extschema@.embed_status.backfill_eta IS
    'estimated working time for the rest of the backfill at its pace so far; NULL if unknown';
COMMENT ON COLUMN @extschema@.embed_status.capture IS
    'how changes are captured: trigger, cdc, manual, or a transition between two of them; last_error says what it waits for';
COMMENT ON COLUMN @extschema@.embed_status.slot_lag IS
    'bytes of WAL that the replication slot retains on disk, for all pipelines of the database; NULL if there is no slot';
COMMENT ON COLUMN @extschema@.embed_status.maintenance_error IS
    'last maintenance failure of the active generation, such as building its index; rows are embedded nevertheless';
COMMENT ON COLUMN @extschema@.embed_status.late_since IS
    'since when a live change has been waiting for longer than option max_lag, also while state is broken or model changed; NULL: none '
    'has, the pipeline is paused, or it has no such option';
GRANT SELECT ON @extschema@.embed_status TO PUBLIC;

CREATE VIEW @extschema@.embed_failures WITH (security_barrier) AS
SELECT p.name AS pipeline,
       f.generation,
       f.key,
       f.class,
       f.message,
       f.attempts,
       f.first_at,
       f.last_at
FROM embed.failure f
JOIN embed.generation g ON g.id = f.generation
JOIN embed.pipeline p ON p.id = g.pipeline
WHERE embed.may_own(p.source);
COMMENT ON VIEW @extschema@.embed_failures IS
    'dead letters of the pipelines you administer: rows given up until they change, are touched, or embed_retry() requeues '
    'them. Rows waiting for an automatic retry are not dead letters: see embed_status.last_error and embed_explain()';
COMMENT ON COLUMN @extschema@.embed_failures.class IS
    'permanent: the model refuses this text; retryable: it failed max_attempts times; configuration: every request to this '
    'model would fail';
COMMENT ON COLUMN @extschema@.embed_failures.message IS 'error reported by the model; it may quote the text';
COMMENT ON COLUMN @extschema@.embed_failures.attempts IS
    'attempts this row used up; failures that are not the row''s fault do not count';
GRANT SELECT ON @extschema@.embed_failures TO PUBLIC;

CREATE VIEW @extschema@.embed_usage WITH (security_barrier) AS
SELECT p.name AS pipeline,
       m.name AS model,
       pg_catalog.date_trunc('hour', u.at) AS hour,
       sum(u.calls)::bigint AS calls,
       sum(u.texts)::bigint AS texts,
       sum(u.tokens)::bigint AS tokens,
       sum(u.cost) AS cost,
       sum(u.saved_by_fingerprint)::bigint AS saved_by_fingerprint,
       sum(u.saved_by_cache)::bigint AS saved_by_cache,
       sum(u.saved_by_dedupe)::bigint AS saved_by_dedupe,
       sum(u.questions)::bigint AS questions,
       sum(u.batch_texts)::bigint AS batch_texts
FROM embed.usage_seen u
LEFT JOIN embed.pipeline p ON p.id = u.pipeline
LEFT JOIN embed.model m ON m.id = u.model
WHERE CASE WHEN u.pipeline IS NULL THEN pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE')
           ELSE p.id IS NOT NULL AND embed.may_own(p.source) END
GROUP BY p.name, m.name, pg_catalog.date_trunc('hour', u.at);
COMMENT ON VIEW @extschema@.embed_usage IS
    'cost of keeping a pipeline fresh and of searching it, and what was saved, per hour. Queries to paid models count, except '
    'on a standby, in a READ ONLY transaction or in one that is rolled back';
COMMENT ON COLUMN @extschema@.embed_usage.pipeline IS
    'NULL: calls of embed(), which belong to no pipeline; shown to embed_admin';
COMMENT ON COLUMN @extschema@.embed_usage.calls IS
    'requests that were answered, refused or failed. Only embed_admin sees the texts saved by vectors of other owners'' '
    'pipelines; for everyone else calls, texts, tokens and cost are shown as if those texts had been sent';
COMMENT ON COLUMN @extschema@.embed_usage.texts IS 'texts that a model embedded';
COMMENT ON COLUMN @extschema@.embed_usage.tokens IS
    'as billed if the provider reports it, otherwise estimated; always an estimate except for embed_admin';
COMMENT ON COLUMN @extschema@.embed_usage.cost IS
    'tokens times the model''s option price (per million tokens); NULL without a price';
COMMENT ON COLUMN @extschema@.embed_usage.saved_by_fingerprint IS 'texts of rows found unchanged';
COMMENT ON COLUMN @extschema@.embed_usage.saved_by_cache IS 'texts whose vector already existed, live or cached';
COMMENT ON COLUMN @extschema@.embed_usage.saved_by_dedupe IS 'texts needed more than once at the same time and sent once';
COMMENT ON COLUMN @extschema@.embed_usage.questions IS
    'the texts that were queries (embed, embed_query, embed_search, embed_search_rows, embed_compare)';
COMMENT ON COLUMN @extschema@.embed_usage.batch_texts IS
    'the texts that went through the provider''s batch API, at its price: see option backfill_via';
GRANT SELECT ON @extschema@.embed_usage TO PUBLIC;

CREATE VIEW @extschema@.embed_batches WITH (security_barrier) AS
SELECT b.id,
       e.name AS endpoint,
       m.name AS model,
       p.name AS pipeline,
       b.state,
       b.texts + x.spared AS texts,
       b.succeeded + CASE WHEN b.is_collected THEN x.spared ELSE 0 END AS succeeded,
       b.failed,
       b.submitted_at,
       b.deadline,
       b.finished_at,
       CASE WHEN x.is_admin THEN b.cost ELSE x.alone_cost END AS cost,
       CASE WHEN x.is_admin THEN b.saved ELSE x.alone_cost * (b.saved / nullif(b.cost, 0)) END AS saved,
       b.remote_id,
       b.last_error
FROM embed.batch b
LEFT JOIN embed.model m ON m.id = b.model
LEFT JOIN embed.endpoint e ON e.name = m.endpoint
LEFT JOIN embed.pipeline p ON p.id = b.pipeline
CROSS JOIN LATERAL (SELECT r.is_admin, CASE WHEN r.is_admin THEN 0 ELSE b.spared END AS spared,
                           b.alone_cost * (1 + b.spared::float8 / greatest(b.texts, 1)) AS alone_cost
                    FROM (SELECT pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE') AS is_admin) r) x
WHERE CASE WHEN p.id IS NULL THEN x.is_admin ELSE embed.may_own(p.source) END;
COMMENT ON VIEW @extschema@.embed_batches IS
    'batches of texts that went to a provider''s batch API, of the pipelines you administer; kept for 30 days after they end';
COMMENT ON COLUMN @extschema@.embed_batches.pipeline IS 'NULL: it was dropped; shown to embed_admin';
COMMENT ON COLUMN @extschema@.embed_batches.state IS
    'preparing: it takes texts, or is uploaded; submitted and running: the provider has it; collecting: results are read; then '
    'done, failed (see last_error), expired (at the provider, or its deadline passed) or cancelled. What has no vector then is '
    'embedded by requests';
COMMENT ON COLUMN @extschema@.embed_batches.texts IS
    'its texts. Only embed_admin sees this without the texts that other owners'' pipelines have; that holds for succeeded, cost '
    'and saved, too';
COMMENT ON COLUMN @extschema@.embed_batches.succeeded IS 'texts with a vector';
COMMENT ON COLUMN @extschema@.embed_batches.failed IS 'texts for which the provider returned an error';
COMMENT ON COLUMN @extschema@.embed_batches.deadline IS 'after which its rows go by requests: option batch_deadline';
COMMENT ON COLUMN @extschema@.embed_batches.cost IS
    'tokens times the model''s option price, less the discount; NULL without a price';
COMMENT ON COLUMN @extschema@.embed_batches.saved IS 'what requests would have cost beyond that';
COMMENT ON COLUMN @extschema@.embed_batches.remote_id IS 'what the provider calls it';
COMMENT ON COLUMN @extschema@.embed_batches.last_error IS 'last error of a step or of a text, as the provider reported it';
GRANT SELECT ON @extschema@.embed_batches TO PUBLIC;
