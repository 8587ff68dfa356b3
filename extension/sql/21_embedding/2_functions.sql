-- The providers' own code is the only home of limits. Runs as the caller and reads no table.
CREATE FUNCTION embed.model_limits(
    name text, provider text, remote_name text, dimensions int, options jsonb,
    OUT inputs int, OUT request_tokens int, OUT input_tokens int)
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.embedding.providers import model_limits
return model_limits.shown_limits(name, provider, remote_name, dimensions, options)
$python$;
COMMENT ON FUNCTION embed.model_limits(text, text, text, int, jsonb) IS 'internal: limits of one request to a model';

CREATE FUNCTION embed.endpoint_problem(endpoint text, OUT problem text, OUT remedy text)
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import endpoints
return endpoints.endpoint_problem(endpoint)
$python$;
COMMENT ON FUNCTION embed.endpoint_problem(text) IS
    'internal: why an endpoint''s secrets cannot be read, and the command that replaces the first one (embed_admin)';

-- The counters are sequences (see plpy/evergreen/embedding/limits/budget.py): the day above bit 44, the amount below.
-- An open transaction that drops the pipeline has them locked, and a view must not wait for it.
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
COMMENT ON FUNCTION embed.spent_budgets(int, jsonb) IS 'internal: the daily budgets that a pipeline has spent';

-- plpy/evergreen/embedding/limits/capacity.py writes the learned limits; this reads them by the same rules.
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
        RETURN;  -- just restored, and no worker has run yet
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
COMMENT ON FUNCTION embed.endpoint_state(int) IS
    'internal: consecutive failures, the time until which nothing is sent, and the learned limits of an endpoint';

CREATE FUNCTION embed.model_change(model int, revision int) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT CASE WHEN NOT w.settled THEN pg_catalog.format('answers of model %s alternate between models', m.name)
                    WHEN w.revision <> model_change.revision THEN pg_catalog.format(
                        'model %s changed: it serves revision %s, the vectors are of revision %s', m.name, w.revision, model_change.revision)
                    WHEN EXISTS (SELECT FROM embed.model_sweep s WHERE s.model = m.id AND s.revision = model_change.revision)
                        THEN pg_catalog.format('model %s changed and is back: vectors of the time between are being marked', m.name) END
        FROM embed.model_watch w JOIN embed.model m ON m.id = w.model
        WHERE w.model = model_change.model);
END
$plpgsql$;
COMMENT ON FUNCTION embed.model_change(int, int) IS
    'internal: why no vectors of this revision of a model are written; NULL: they are';

-- The same counters as in endpoint_state, for the model and its endpoint. A free model has none.
CREATE FUNCTION embed.model_problem(model int) RETURNS text
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
COMMENT ON FUNCTION embed.model_problem(int) IS 'internal: why nothing is sent to a model at the moment; NULL if it works';
