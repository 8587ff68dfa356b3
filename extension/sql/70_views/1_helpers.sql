-- Called by the views only: PUBLIC has no USAGE on this schema. Plain SQL, so that current_user is the asking role.
CREATE FUNCTION embed.may_see(source regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE')
        OR coalesce(pg_catalog.has_table_privilege(current_user, c.oid, 'SELECT'), false)
        OR coalesce(pg_catalog.has_any_column_privilege(current_user, c.oid, 'SELECT'), false)
        OR coalesce(pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE'), false)
    FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_class c ON c.oid = source
$sql$;
COMMENT ON FUNCTION embed.may_see(regclass) IS 'internal: may the asking role see that a pipeline on this table exists';

CREATE FUNCTION embed.may_own(source regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE')
        OR coalesce((SELECT pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE')
                     FROM pg_catalog.pg_class c WHERE c.oid = source), false)
$sql$;
COMMENT ON FUNCTION embed.may_own(regclass) IS 'internal: may the asking role administer a pipeline on this table';

-- reltuples where the table was analysed or is large; counting a small one costs next to nothing.
CREATE FUNCTION embed.rough_rows(source regclass, OUT rows bigint, OUT is_small boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT coalesce(sum(CASE WHEN l.reltuples > 0 THEN l.reltuples ELSE l.bytes / 400 END), 0)::bigint,
           coalesce(sum(l.bytes) < 4 * 1024 * 1024 OR (bool_or(l.reltuples < 0) AND sum(l.bytes) < 64 * 1024 * 1024), true)
    FROM (SELECT c.reltuples, pg_catalog.pg_relation_size(c.oid) AS bytes
          FROM embed.partition_tree(source) t (relid)
          JOIN pg_catalog.pg_class c ON c.oid = t.relid AND c.relkind = 'r') l
$sql$;
COMMENT ON FUNCTION embed.rough_rows(regclass) IS 'internal: about how many rows a table has, by the catalog; is it worth counting them';

-- While somebody alters the table even its size cannot be looked at, and embed_status must not wait for that. The planner runs the owner's immutable functions, as of an index's condition: so the counting is the owner's, by a
-- function of the pipeline, and undone, or what else that code did would be done as us at COMMIT.
CREATE FUNCTION embed.estimate_rows(source regclass) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '50ms'
AS $plpgsql$
DECLARE
    rough bigint;
    counted bigint;
    is_small boolean;
    pipeline int;
    session text[];
BEGIN
    BEGIN
        SELECT r.rows, r.is_small INTO rough, is_small FROM embed.rough_rows(source) r;
        SELECT min(p.id) INTO pipeline FROM embed.pipeline p WHERE p.source = estimate_rows.source;
        IF is_small AND embed.runs_as_owner(pipeline) THEN
            session = embed.session_state();
            EXECUTE pg_catalog.format('SELECT embed_store.count_%s()', pipeline) INTO counted;
        END IF;
        RAISE EXCEPTION 'undone';
    EXCEPTION WHEN OTHERS THEN
        NULL;  -- the variables keep what they got
    END;
    IF session IS NOT NULL THEN
        PERFORM embed.restore_session(session);
    END IF;
    RETURN coalesce(counted, rough, (
        SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
        FROM embed.partition_tree(source) t (relid) JOIN pg_catalog.pg_class c ON c.oid = t.relid WHERE c.relkind = 'r'));
END
$plpgsql$;
COMMENT ON FUNCTION embed.estimate_rows(regclass) IS
    'internal: rows of a pipeline''s table, counted below 4 MB, or below 64 MB if never analysed, else the planner''s estimate';

-- The counters are sequences, see plpy/evergreen/model/budget.py: the day above 44 bits, the amount below.
-- A transaction left open that drops the pipeline has them locked, and a view does not wait for that.
CREATE FUNCTION embed.spent_budgets(pipeline int, options jsonb) RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '50ms'
AS $plpgsql$
DECLARE
    kind text;
    counter bigint;
    spent text[] = '{}';
    today bigint = pg_catalog.floor(extract(epoch FROM pg_catalog.clock_timestamp()) / 86400);
BEGIN
    FOREACH kind IN ARRAY ARRAY['tokens', 'cost'] LOOP
        IF options ? ('daily_' || kind) AND pg_catalog.to_regclass(pg_catalog.format('embed.pipeline_%s_%s', pipeline, kind)) IS NOT NULL
        THEN
            EXECUTE pg_catalog.format('SELECT last_value FROM embed.pipeline_%s_%s', pipeline, kind) INTO counter;
            IF counter >> 44 = today
               AND (counter & ((1::bigint << 44) - 1))
                   >= pg_catalog.round((options ->> ('daily_' || kind))::numeric * (CASE kind WHEN 'cost' THEN 1000000 ELSE 1 END)) THEN
                spent = spent || ('daily_' || kind);
            END IF;
        END IF;
    END LOOP;
    RETURN spent;
EXCEPTION WHEN lock_not_available OR undefined_table THEN
    RETURN spent;
END
$plpgsql$;
COMMENT ON FUNCTION embed.spent_budgets(int, jsonb) IS 'internal: which of its daily budgets a pipeline has spent';

-- What was learned is written as in plpy/evergreen/model/capacity.py, and read by the same rules.
CREATE FUNCTION embed.endpoint_state(
    endpoint int, OUT failures bigint, OUT rests_until timestamptz, OUT learned_inputs int, OUT seconds_per_text float8)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '50ms'
AS $plpgsql$
DECLARE
    until bigint;
    served record;
    text_micros bigint;
    sizes bigint;
    most bigint;
BEGIN
    failures = 0;
    IF pg_catalog.to_regclass(pg_catalog.format('embed.endpoint_%s_failures', endpoint)) IS NULL
       OR pg_catalog.to_regclass(pg_catalog.format('embed.endpoint_%s_rests_until', endpoint)) IS NULL THEN
        RETURN;  -- restored a moment ago, and no worker has been here yet
    END IF;
    EXECUTE pg_catalog.format('SELECT f.last_value - 1, r.last_value FROM embed.endpoint_%1$s_failures f, embed.endpoint_%1$s_rests_until r',
                              endpoint) INTO failures, until;
    IF until / 1e6 > extract(epoch FROM pg_catalog.clock_timestamp()) THEN
        rests_until = pg_catalog.to_timestamp(until / 1e6);
    END IF;
    FOR served IN
        SELECT m.id, l.inputs, least(coalesce((e.options ->> 'read_timeout')::float8, 30),
                                     coalesce((e.options ->> 'total_timeout')::float8, 60)) AS seconds
        FROM embed.endpoint e JOIN embed.model m ON m.endpoint = e.name
        CROSS JOIN LATERAL embed.model_limits(m.name, m.provider, m.remote_name, m.dimensions, m.options) l
        WHERE e.id = endpoint_state.endpoint LOOP
        CONTINUE WHEN pg_catalog.to_regclass(pg_catalog.format('embed.model_%s_sizes', served.id)) IS NULL;
        EXECUTE pg_catalog.format('SELECT t.last_value - 1, s.last_value - 1 FROM embed.model_%1$s_text_micros t, embed.model_%1$s_sizes s',
                                  served.id) INTO text_micros, sizes;
        seconds_per_text = greatest(seconds_per_text, nullif(text_micros, 0) / 1e6);
        most = least(CASE WHEN text_micros > 0 THEN greatest(1, pg_catalog.floor(served.seconds * 0.8e6 / text_micros)) END,
                     nullif((sizes >> 14) & 16383, 0));
        learned_inputs = least(learned_inputs, CASE WHEN most < served.inputs THEN most END);
    END LOOP;
EXCEPTION WHEN lock_not_available OR undefined_table THEN
    failures = 0;  -- it is being dropped
END
$plpgsql$;
COMMENT ON FUNCTION embed.endpoint_state(int) IS 'internal: failures in a row, until when nothing is sent, and what was learned of it';

-- The same counters as endpoint_state's, of the model and of its endpoint. A model that is free has none.
CREATE FUNCTION embed.model_trouble(model int) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '50ms'
AS $plpgsql$
DECLARE
    part record;
    failures bigint;
    until bigint;
BEGIN
    FOR part IN SELECT 'model' AS kind, m.id AS number, m.name FROM embed.model m WHERE m.id = model
                UNION ALL SELECT 'endpoint', e.id, e.name FROM embed.model m JOIN embed.endpoint e ON e.name = m.endpoint
                          WHERE m.id = model LOOP
        CONTINUE WHEN pg_catalog.to_regclass(pg_catalog.format('embed.%s_%s_failures', part.kind, part.number)) IS NULL
                   OR pg_catalog.to_regclass(pg_catalog.format('embed.%s_%s_rests_until', part.kind, part.number)) IS NULL;
        EXECUTE pg_catalog.format('SELECT f.last_value - 1, r.last_value FROM embed.%1$s_%2$s_failures f, embed.%1$s_%2$s_rests_until r',
                                  part.kind, part.number) INTO failures, until;
        IF until / 1e6 > extract(epoch FROM pg_catalog.clock_timestamp()) THEN
            RETURN pg_catalog.format('%s %s rests until %s UTC%s', part.kind, part.name,
                pg_catalog.to_char(pg_catalog.to_timestamp(until / 1e6) AT TIME ZONE 'UTC', 'HH24:MI:SS'),
                CASE failures WHEN 0 THEN ': it asked for a pause'
                              WHEN 1 THEN ' after a failure' ELSE ' after ' || failures || ' failures in a row' END);
        ELSIF failures > 0 THEN
            RETURN pg_catalog.format('%s %s failed (%s in a row), and is tried again', part.kind, part.name, failures);
        END IF;
    END LOOP;
    RETURN NULL;
EXCEPTION WHEN lock_not_available OR undefined_table THEN
    RETURN NULL;
END
$plpgsql$;
COMMENT ON FUNCTION embed.model_trouble(int) IS 'internal: why nothing is sent to a model just now; NULL where it works';

-- Of a long queue a part is looked at, and how long it is the planner says: its figures are as of the last ANALYZE, which
-- autovacuum runs every minute where there is much to do, and the size of the table as of now. (VOLATILE, or EXPLAIN is
-- not allowed.)
CREATE FUNCTION embed.planned_rows(queue text, number int) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    plan json;
BEGIN
    EXECUTE CASE queue
        WHEN 'job' THEN pg_catalog.format('EXPLAIN (FORMAT JSON) SELECT FROM embed.job WHERE generation = %s', number)
        WHEN 'change' THEN pg_catalog.format('EXPLAIN (FORMAT JSON) SELECT FROM embed.change WHERE pipeline = %s', number)
        WHEN 'failure' THEN pg_catalog.format('EXPLAIN (FORMAT JSON) SELECT FROM embed.failure WHERE generation = %s', number)
    END INTO plan;
    RETURN (plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
END
$plpgsql$;
COMMENT ON FUNCTION embed.planned_rows(text, int) IS 'internal: about how many rows of a queue belong to a generation or a pipeline';

CREATE FUNCTION embed.documents(generation int) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT coalesce(sum(t.documents), 0)::bigint FROM embed.tally t WHERE t.generation = $1
$sql$;
COMMENT ON FUNCTION embed.documents(int) IS 'internal: how many documents a generation has';

-- By the documents, not by the size of the table: that locks it, and bytes say little of a row's width.
CREATE FUNCTION embed.rough_chunks(generation int) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT coalesce((embed.documents($1) * avg(d.chunks))::bigint, 0)
    FROM (SELECT d.chunks FROM embed.document d WHERE d.generation = $1 LIMIT 5000) d
$sql$;
COMMENT ON FUNCTION embed.rough_chunks(int) IS
    'internal: about how many chunks a generation has, by those of its first documents';

-- Of a generation, or of its pipeline as a whole, or for an admin of no pipeline. Another session's lock that was in the way once or twice is no news.
CREATE FUNCTION embed.maintenance_problem(pipeline int, generation int, is_admin boolean) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT pg_catalog.format('%s: %s (tried %s times, again at %s)', e.task, e.message, e.failures,
                             pg_catalog.to_char(e.retry_at, 'YYYY-MM-DD HH24:MI:SS TZ'))
    FROM embed.maintenance_error e
    WHERE (e.generation = $2 OR (e.generation = 0 AND (e.pipeline = $1 OR (e.pipeline = 0 AND is_admin))))
      AND NOT (e.task = 'vector index' AND EXISTS (
              SELECT FROM pg_catalog.pg_index i
              WHERE i.indisvalid AND i.indexrelid = pg_catalog.to_regclass('embed_store.g' || e.generation || '_embedding_idx')))
      AND (e.failures > 2 OR e.sqlstate NOT IN ('55P03', '40P01', '55006'))
    ORDER BY e.generation DESC, e.pipeline DESC, e.last_at DESC LIMIT 1
$sql$;
COMMENT ON FUNCTION embed.maintenance_problem(int, int, boolean) IS
    'internal: what maintenance of a generation failed the last time, and when it is tried again';

-- What the asking role may know of usage: all of it, or what there would have been without the pipelines of other owners.
CREATE VIEW embed.usage_seen AS
SELECT u.pipeline, u.model, u.at, u.saved_by_fingerprint, u.questions,
       CASE WHEN r.is_admin THEN u.calls ELSE u.alone_calls END AS calls,
       CASE WHEN r.is_admin THEN u.texts ELSE u.alone_texts END AS texts,
       CASE WHEN r.is_admin THEN u.tokens ELSE u.alone_tokens END AS tokens,
       CASE WHEN r.is_admin THEN u.cost ELSE u.alone_cost END AS cost,
       CASE WHEN r.is_admin THEN u.saved_by_cache ELSE u.alone_saved_by_cache END AS saved_by_cache,
       CASE WHEN r.is_admin THEN u.saved_by_dedupe ELSE u.alone_saved_by_dedupe END AS saved_by_dedupe
FROM embed.usage u
CROSS JOIN (SELECT pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE') AS is_admin) r;
COMMENT ON VIEW embed.usage_seen IS 'internal: usage as far as the asking role may know of it';
