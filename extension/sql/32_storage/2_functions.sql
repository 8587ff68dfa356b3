CREATE FUNCTION embed.count_documents() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    INSERT INTO embed.document_count (generation, documents)
    SELECT m.generation, CASE TG_OP WHEN 'INSERT' THEN count(*) ELSE -count(*) END FROM moved m GROUP BY m.generation;
    RETURN NULL;
END
$plpgsql$;
COMMENT ON FUNCTION embed.count_documents() IS 'internal: trigger, maintains embed.document_count';

CREATE TRIGGER count_insert AFTER INSERT ON embed.document REFERENCING NEW TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION embed.count_documents();
CREATE TRIGGER count_delete AFTER DELETE ON embed.document REFERENCING OLD TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION embed.count_documents();
ALTER TABLE embed.document ENABLE ALWAYS TRIGGER count_insert, ENABLE ALWAYS TRIGGER count_delete;

-- Emptying the table makes this count the documents. Workers that sum up rows always leave one row of each generation.
CREATE FUNCTION embed.recount_documents() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    INSERT INTO embed.document_count (generation, documents)
    SELECT g.id, count(*) FROM embed.generation g JOIN embed.document d ON d.generation = g.id
    WHERE NOT EXISTS (SELECT FROM embed.document_count t WHERE t.generation = g.id) GROUP BY g.id;
    RETURN NULL;
END
$plpgsql$;
COMMENT ON FUNCTION embed.recount_documents() IS
    'internal: trigger, counts the documents of generations that have no row in embed.document_count';

CREATE TRIGGER recount AFTER DELETE OR TRUNCATE ON embed.document_count FOR EACH STATEMENT EXECUTE FUNCTION embed.recount_documents();
ALTER TABLE embed.document_count ENABLE ALWAYS TRIGGER recount;

-- Reads the file size and takes no lock: a view must not wait. Until a worker has processed a restored pipeline, the chunks are
-- counted, if that is fast.
CREATE FUNCTION embed.documents_without_vectors(pipeline int, generation int) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '50ms'
AS $plpgsql$
DECLARE
    stored constant oid = pg_catalog.to_regclass('embed_store.g' || generation);
    documents constant bigint = embed.documents(generation);
    lost bigint = 0;
BEGIN
    IF documents = 0 OR stored IS NULL THEN
        RETURN 0;
    END IF;
    IF (pg_catalog.pg_stat_file(pg_catalog.pg_relation_filepath(stored), true)).size = 0 THEN
        SELECT count(*) INTO lost FROM embed.document d WHERE d.generation = documents_without_vectors.generation AND d.chunks > 0;
    ELSIF documents <= 100000 AND embed.is_restored(pipeline) THEN
        EXECUTE pg_catalog.format(
            'SELECT count(*) FROM embed.document d'
            ' LEFT JOIN (SELECT g.document, count(*) AS chunks FROM embed_store.g%s g GROUP BY g.document) s ON s.document = d.id'
            ' WHERE d.generation = $1 AND d.chunks <> coalesce(s.chunks, 0)', generation) USING generation INTO lost;
    END IF;
    RETURN lost;
EXCEPTION
WHEN lock_not_available THEN
    RETURN 0;
WHEN insufficient_privilege THEN
    PERFORM embed.report_demoted_owner();
    RAISE;
END
$plpgsql$;
COMMENT ON FUNCTION embed.documents_without_vectors(int, int) IS
    'internal: number of a generation''s documents whose chunks are missing, as far as can be told without waiting';

CREATE FUNCTION embed.follow_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    IF TG_TABLE_NAME = 'document' THEN  -- the same as a restore without documents
        DELETE FROM embed.document_count;
        UPDATE embed.pipeline SET database_oid = 0;
        INSERT INTO embed.change_log (pipeline, scope) SELECT p.id, 'source' FROM embed.pipeline p;
    ELSE
        INSERT INTO embed.change_log (pipeline, scope)
        SELECT g.pipeline, 'source' FROM embed.generation g WHERE 'g' || g.id = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$plpgsql$;
COMMENT ON FUNCTION embed.follow_truncate() IS
    'internal: trigger, queues a full check after documents or chunks were truncated';
CREATE TRIGGER truncated AFTER TRUNCATE ON embed.document FOR EACH STATEMENT EXECUTE FUNCTION embed.follow_truncate();
ALTER TABLE embed.document ENABLE ALWAYS TRIGGER truncated;

-- A trigger on the table, not a check in the code that writes it: this covers every way into the cache.
CREATE FUNCTION embed.reject_erased_text() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    IF EXISTS (SELECT FROM embed.erased_text f
               WHERE f.model = NEW.model AND f.hash = NEW.hash
                 AND f.erased_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(days => 1)) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$plpgsql$;
COMMENT ON FUNCTION embed.reject_erased_text() IS 'internal: keeps the vectors of erased texts out of the cache';
CREATE TRIGGER reject_erased_text BEFORE INSERT ON embed.cache FOR EACH ROW EXECUTE FUNCTION embed.reject_erased_text();
ALTER TABLE embed.cache ENABLE ALWAYS TRIGGER reject_erased_text;  -- also under session_replication_role = replica

CREATE FUNCTION embed.documents(generation int) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT coalesce(sum(t.documents), 0)::bigint FROM embed.document_count t WHERE t.generation = $1
$sql$;
COMMENT ON FUNCTION embed.documents(int) IS 'internal: number of documents of a generation';

-- Estimates from the documents, not from the table's size: reading the size locks the table, and bytes say little about a row's
-- width.
CREATE FUNCTION embed.estimate_chunks(generation int) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT coalesce((embed.documents($1) * avg(d.chunks))::bigint, 0)
    FROM (SELECT d.chunks FROM embed.document d WHERE d.generation = $1 LIMIT 5000) d
$sql$;
COMMENT ON FUNCTION embed.estimate_chunks(int) IS
    'internal: approximate number of chunks of a generation, extrapolated from its first documents';

CREATE FUNCTION embed.lag_percentiles(
    pipeline int,
    OUT p50 interval, OUT p95 interval, OUT p99 interval,
    OUT live_p50 interval, OUT live_p95 interval, OUT live_p99 interval,
    OUT bulk_p50 interval, OUT bulk_p95 interval, OUT bulk_p99 interval)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
#variable_conflict use_column
BEGIN
    SELECT make_interval(secs => 0.001 * power(2::float8, t.p50 / 4.0::float8)),
           make_interval(secs => 0.001 * power(2::float8, t.p95 / 4.0::float8)),
           make_interval(secs => 0.001 * power(2::float8, t.p99 / 4.0::float8)),
           make_interval(secs => 0.001 * power(2::float8, t.live_p50 / 4.0::float8)),
           make_interval(secs => 0.001 * power(2::float8, t.live_p95 / 4.0::float8)),
           make_interval(secs => 0.001 * power(2::float8, t.live_p99 / 4.0::float8)),
           make_interval(secs => 0.001 * power(2::float8, t.bulk_p50 / 4.0::float8)),
           make_interval(secs => 0.001 * power(2::float8, t.bulk_p95 / 4.0::float8)),
           make_interval(secs => 0.001 * power(2::float8, t.bulk_p99 / 4.0::float8))
    INTO p50, p95, p99, live_p50, live_p95, live_p99, bulk_p50, bulk_p95, bulk_p99
    FROM (SELECT min(b.bucket) FILTER (WHERE b.lane IS NULL AND b.up_to >= b.total * 0.5) AS p50,
                 min(b.bucket) FILTER (WHERE b.lane IS NULL AND b.up_to >= b.total * 0.95) AS p95,
                 min(b.bucket) FILTER (WHERE b.lane IS NULL AND b.up_to >= b.total * 0.99) AS p99,
                 min(b.bucket) FILTER (WHERE b.lane = 0 AND b.up_to >= b.total * 0.5) AS live_p50,
                 min(b.bucket) FILTER (WHERE b.lane = 0 AND b.up_to >= b.total * 0.95) AS live_p95,
                 min(b.bucket) FILTER (WHERE b.lane = 0 AND b.up_to >= b.total * 0.99) AS live_p99,
                 min(b.bucket) FILTER (WHERE b.lane = 1 AND b.up_to >= b.total * 0.5) AS bulk_p50,
                 min(b.bucket) FILTER (WHERE b.lane = 1 AND b.up_to >= b.total * 0.95) AS bulk_p95,
                 min(b.bucket) FILTER (WHERE b.lane = 1 AND b.up_to >= b.total * 0.99) AS bulk_p99
          FROM (SELECT c.lane, c.bucket, sum(c.count) OVER (PARTITION BY c.lane ORDER BY c.bucket) AS up_to,
                       sum(c.count) OVER (PARTITION BY c.lane) AS total
                FROM (SELECT x.lane, h.bucket, sum(h.count) AS count  -- lane NULL: both
                      FROM embed.lag x CROSS JOIN LATERAL unnest(x.buckets, x.counts) h (bucket, count)
                      WHERE x.pipeline = $1 AND x.at > clock_timestamp() - '1 h'::interval
                      GROUP BY GROUPING SETS ((x.lane, h.bucket), (h.bucket))) c) b) t;
END
$plpgsql$;
COMMENT ON FUNCTION embed.lag_percentiles(int) IS
    'internal: percentiles of a pipeline''s lag over the last hour, of both lanes and of each';

CREATE FUNCTION embed.rows_in_batch(generation int) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT CASE WHEN c.rows <= 5000 THEN c.rows ELSE greatest(
               (SELECT sum(b.rows)::bigint FROM embed.batch b JOIN embed.generation g ON g.pipeline = b.pipeline
                WHERE g.id = $1 AND b.finished_at IS NULL), c.rows) END
    FROM (SELECT count(*) AS rows
          FROM (SELECT FROM embed.generation g
                JOIN embed.batch b ON b.pipeline = g.pipeline AND b.finished_at IS NULL
                JOIN embed.job j ON j.batch = b.id AND j.batch > 0 AND j.generation = g.id
                                    AND j.ready_at > pg_catalog.clock_timestamp()
                WHERE g.id = $1 LIMIT 5001) q) c
$sql$;
COMMENT ON FUNCTION embed.rows_in_batch(int) IS
    'internal: rows of a generation that wait for a provider''s batch; more than 5,000 are estimated';
