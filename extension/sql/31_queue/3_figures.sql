-- What embed_status shows of one pipeline's queues. Each function examines the first 5,000 rows of a queue and extrapolates the
-- rest. SECURITY DEFINER, because a view's functions run with its reader's rights; the schema is closed to readers. In SQL, so that
-- they are planned in each query: PL/pgSQL would keep plans that were made while a queue was empty.
CREATE FUNCTION embed.job_figures(
    generation int, pipeline int, is_model_failing boolean,
    OUT waiting bigint, OUT in_flight bigint, OUT checking bigint, OUT new bigint, OUT backfill bigint, OUT oldest timestamptz,
    OUT last_error text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT (a.waiting * z.whole)::bigint, (a.in_flight * z.whole)::bigint, (a.checking * z.whole)::bigint,
           (a.new * z.whole)::bigint, (a.backfill * z.whole)::bigint, a.oldest, a.last_error
    FROM (SELECT count(*) AS seen,
                 count(*) FILTER (WHERE e.token IS NULL) AS waiting,
                 count(e.token) AS in_flight,
                 count(d.key) AS checking,
                 count(*) - count(d.key) AS new,
                 min(q.changed_at) AS oldest,
                 count(*) FILTER (WHERE q.lane = 1) AS backfill,
                 (array_agg(q.last_error ORDER BY q.ready_at DESC) FILTER (
                     WHERE q.last_error IS NOT NULL AND c.key IS NULL
                       AND (q.error_scope IS NULL OR q.error_scope = 'row' OR (q.error_scope IN ('service', 'rest') AND $3))))[1] AS last_error
          FROM (SELECT j.* FROM embed.job j WHERE j.generation = $1 AND j.lane IN (0, 1) ORDER BY j.lane, j.xid LIMIT 5000) q
          LEFT JOIN LATERAL (SELECT d.key FROM embed.document d WHERE d.generation = q.generation AND d.key = q.key OFFSET 0) d
              ON true
          LEFT JOIN (SELECT DISTINCT c.key FROM (SELECT c.key FROM embed.change_log c WHERE c.pipeline = $2 ORDER BY c.xid LIMIT 5000) c) c
              ON c.key = q.key
          LEFT JOIN embed.lease e ON e.token = q.token AND e.expires_at > pg_catalog.clock_timestamp()) a
    CROSS JOIN LATERAL (SELECT CASE WHEN a.seen < 5000 THEN 1.0
                                    ELSE greatest(embed.planned_rows('job', $1), a.seen) / a.seen::float8 END AS whole) z
$sql$;
COMMENT ON FUNCTION embed.job_figures(int, int, boolean) IS
    'internal: jobs of a generation: how many wait, are in flight, belong to rows with a document (checking) or without one (new), '
    'or are in the backfill lane; the oldest change, and the latest error of a row without newer changes';

CREATE FUNCTION embed.change_log_figures(
    pipeline int, generation int,
    OUT keys bigint, OUT checking bigint, OUT new bigint, OUT too_long bigint, OUT oldest timestamptz, OUT restarts boolean)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT (a.keys * z.whole)::bigint, (a.checking * z.whole)::bigint, ((a.keys - a.checking) * z.whole)::bigint,
           a.too_long, a.oldest, a.restarts
    FROM (SELECT sum(q.rows) AS seen,
                 count(q.key) AS keys,
                 count(d.key) AS checking,
                 count(*) FILTER (WHERE pg_catalog.pg_column_size(q.key) > 2600) AS too_long,
                 min(q.oldest) AS oldest,
                 coalesce(bool_or(q.restarts), false) AS restarts
          FROM (SELECT c.key, count(*) AS rows, min(c.changed_at) AS oldest, bool_or(c.scope = 'source') AS restarts
                FROM (SELECT c.* FROM embed.change_log c WHERE c.pipeline = $1 ORDER BY c.xid LIMIT 5000) c
                GROUP BY c.key) q
          LEFT JOIN LATERAL (SELECT j.key FROM embed.job j WHERE j.generation = $2 AND j.key = q.key OFFSET 0) j ON true
          LEFT JOIN LATERAL (SELECT d.key FROM embed.document d WHERE d.generation = $2 AND d.key = q.key OFFSET 0) d ON true
          WHERE j.key IS NULL) a
    CROSS JOIN LATERAL (SELECT CASE WHEN coalesce(a.seen, 0) < 5000 THEN 1.0
                                    ELSE greatest(embed.planned_rows('change_log', $1), a.seen) / a.seen::float8 END AS whole) z
$sql$;
COMMENT ON FUNCTION embed.change_log_figures(int, int) IS
    'internal: changed keys of a pipeline without a job: how many, with a document (checking) or without one (new); rows whose '
    'key cannot be queued, the oldest change, and whether a check of all rows is logged';

CREATE FUNCTION embed.failure_figures(
    generation int, pipeline int, OUT failed bigint, OUT emptied bigint, OUT last_error text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT CASE WHEN count(*) < 5000 THEN count(*) ELSE greatest(embed.planned_rows('failure', $1), count(*)) END,
           count(d.key) FILTER (WHERE w.key IS NULL AND q.key IS NULL),
           (array_agg(x.message ORDER BY x.last_at DESC) FILTER (WHERE w.key IS NULL AND q.key IS NULL))[1]
    FROM (SELECT x.key, x.message, x.last_at FROM embed.failure x WHERE x.generation = $1 LIMIT 5000) x
    LEFT JOIN LATERAL (SELECT d.key FROM embed.document d
                       WHERE d.generation = $1 AND d.key = x.key AND d.src_hash = '' OFFSET 0) d ON true
    LEFT JOIN LATERAL (SELECT j.key FROM embed.job j WHERE j.generation = $1 AND j.key = x.key OFFSET 0) q ON true
    LEFT JOIN (SELECT DISTINCT c.key FROM (SELECT c.key FROM embed.change_log c WHERE c.pipeline = $2 ORDER BY c.xid LIMIT 5000) c) w
        ON w.key = x.key
$sql$;
COMMENT ON FUNCTION embed.failure_figures(int, int) IS
    'internal: dead letters of a generation; of those whose row has no newer change: how many have an emptied document, and the '
    'latest error';

-- The log is in the order of transactions, and one may log thousands of rows: so it goes from transaction to transaction by the
-- index, and examines one row of each. 50 of them, because with a worker no more than a few are there, and without one the
-- oldest of many is among the first.
CREATE FUNCTION embed.oldest_live_change(pipeline int, generation int, bulk_is_live boolean) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    WITH RECURSIVE transaction (n, xid) AS (
        SELECT 1, (SELECT c.xid FROM embed.change_log c WHERE c.pipeline = $1 ORDER BY c.xid LIMIT 1)
        UNION ALL
        SELECT t.n + 1, (SELECT c.xid FROM embed.change_log c WHERE c.pipeline = $1 AND c.xid > t.xid ORDER BY c.xid LIMIT 1)
        FROM transaction t WHERE t.xid IS NOT NULL AND t.n < 50
    )
    SELECT least(
        (SELECT min(j.unserved_since)
         FROM (SELECT j.unserved_since FROM embed.job j WHERE j.generation = $2 AND j.lane = 0 ORDER BY j.xid LIMIT 1000) j),
        (SELECT min(l.changed_at)
         FROM (SELECT l.changed_at FROM embed.link_cursor l WHERE l.pipeline = $1 AND NOT l.paging ORDER BY l.moved_at LIMIT 1000) l),
        (SELECT min(f.changed_at)
         FROM transaction t
         CROSS JOIN LATERAL (SELECT c.changed_at, c.bulk, c.recheck, c.scope FROM embed.change_log c
                             WHERE c.pipeline = $1 AND c.xid = t.xid LIMIT 1) f
         WHERE f.recheck IS NOT TRUE AND f.scope IS DISTINCT FROM 'source'
           AND ($3 OR NOT coalesce(f.bulk, EXISTS (SELECT FROM embed.change_log c
                                                   WHERE c.pipeline = $1 AND c.xid = t.xid OFFSET 1000)))))
$sql$;
COMMENT ON FUNCTION embed.oldest_live_change(int, int, boolean) IS
    'internal: when the oldest live change that is not searchable yet was made; NULL: there is none';

CREATE FUNCTION embed.late_since(pipeline int, generation int, options jsonb) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT o.late_since
    FROM (SELECT embed.oldest_live_change($1, $2, $3 ->> 'bulk_lane' IS NOT DISTINCT FROM 'live') + ($3 ->> 'max_lag')::interval AS late_since
          WHERE $3 ? 'max_lag') o
    WHERE o.late_since <= pg_catalog.clock_timestamp()
$sql$;
COMMENT ON FUNCTION embed.late_since(int, int, jsonb) IS
    'internal: since when a live change has been waiting for longer than option max_lag; NULL: none has, or there is no such option';
