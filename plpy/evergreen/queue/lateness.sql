-- is_promised(): whether any pipeline has option max_lag, or had it when it was late
SELECT EXISTS (SELECT FROM embed.pipeline p WHERE p.options ? 'max_lag')
    OR EXISTS (SELECT FROM embed.change_log_state s WHERE s.late_since IS NOT NULL) AS is_promised

-- turned(): pipelines that are late by option max_lag and were not when this was last logged, or the other way round. A pipeline
-- whose row is locked is noted by another worker now, or the next time.
SELECT n.pipeline, n.options, n.model, n.model_revision, n.max_lag,
       pg_catalog.to_char(n.since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS since,
       extract(epoch FROM pg_catalog.clock_timestamp() - s.late_since)::float8 AS late_for
FROM (SELECT p.id AS pipeline, p.options::pg_catalog.text AS options, g.model, g.model_revision, p.options ->> 'max_lag' AS max_lag,
             CASE WHEN p.state = 'active' AND p.options ? 'max_lag' THEN embed.late_since(p.id, g.id, p.options) END AS since
      FROM embed.pipeline p JOIN embed.generation g ON g.pipeline = p.id AND g.state = 'active' OFFSET 0) n
JOIN embed.change_log_state s ON s.pipeline = n.pipeline
WHERE (n.since IS NULL) <> (s.late_since IS NULL)
FOR UPDATE OF s SKIP LOCKED

-- note(int4, timestamptz): what is logged
UPDATE embed.change_log_state SET late_since = $2 WHERE pipeline = $1

-- reason(int4, jsonb, int4, int4): why a pipeline is late, as far as the database knows it
SELECT CASE WHEN $2 ->> 'on_model_change' IS DISTINCT FROM 'warn' AND embed.model_change($3, $4) IS NOT NULL THEN 'model_changed'
            WHEN embed.spent_budgets($1, $2) <> '{}' THEN 'budget_spent'
            WHEN embed.model_problem($3) IS NOT NULL THEN 'model_failing'
            ELSE 'backlog' END AS reason
