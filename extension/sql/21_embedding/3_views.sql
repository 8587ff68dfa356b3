CREATE VIEW @extschema@.embed_models WITH (security_barrier) AS
SELECT m.name AS model,
       m.provider,
       m.remote_name,
       m.dimensions,
       m.endpoint,
       l.inputs,
       l.request_tokens,
       l.input_tokens,
       (m.options OPERATOR(pg_catalog.->>) 'price')::numeric AS price,
       m.options,
       m.built_in,
       coalesce(w.revision, 1) AS revision,
       w.served_as,
       w.watched_at,
       w.drift,
       w.changed_at,
       coalesce(w.settled, true) AS settled
FROM embed.model m
LEFT JOIN embed.model_watch w ON w.model = m.id
CROSS JOIN LATERAL embed.model_limits(m.name, m.provider, m.remote_name, m.dimensions, m.options) l;
COMMENT ON VIEW @extschema@.embed_models IS 'registered models: where they are served and the limits of one request';
COMMENT ON COLUMN @extschema@.embed_models.inputs IS
    'most texts in one request: the provider''s limit, or the model''s options';
COMMENT ON COLUMN @extschema@.embed_models.request_tokens IS 'most tokens in one request; NULL: no known limit';
COMMENT ON COLUMN @extschema@.embed_models.input_tokens IS 'most tokens in one text; NULL: no known limit';
COMMENT ON COLUMN @extschema@.embed_models.price IS 'price of a million tokens, from the model''s options';
COMMENT ON COLUMN @extschema@.embed_models.revision IS
    'which of the models that were served under this name is served now: 1 until a change was noticed';
COMMENT ON COLUMN @extschema@.embed_models.served_as IS 'what the server calls the model in its answers; of Ollama''s, with its digest';
COMMENT ON COLUMN @extschema@.embed_models.watched_at IS 'when it was last compared with what it was; NULL: not watched';
COMMENT ON COLUMN @extschema@.embed_models.drift IS
    'largest 1 - cosine then, over a few fixed texts; above option drift_limit (0.02) in two looks in a row, it is another model';
COMMENT ON COLUMN @extschema@.embed_models.changed_at IS 'when a change was last noticed';
COMMENT ON COLUMN @extschema@.embed_models.settled IS
    'false while successive answers are of different models, as of a fleet that serves two: no vector is written meanwhile';
GRANT SELECT ON @extschema@.embed_models TO PUBLIC;

CREATE VIEW @extschema@.embed_endpoints WITH (security_barrier) AS
SELECT e.name AS endpoint,
       e.url,
       e.secret,
       e.options,
       CASE WHEN s.failures >= 3 THEN CASE WHEN s.rests_until IS NULL THEN 'half-open' ELSE 'open' END
            WHEN s.rests_until IS NULL THEN 'closed' ELSE 'resting' END AS breaker,
       s.failures,
       s.rests_until,
       ARRAY(SELECT m.name FROM embed.model m WHERE m.endpoint = e.name ORDER BY m.name) AS models,
       p.problem,
       p.remedy,
       s.learned_inputs,
       s.seconds_per_text
FROM embed.endpoint e
CROSS JOIN LATERAL embed.endpoint_state(e.id) s
CROSS JOIN LATERAL embed.endpoint_problem(e.name) p
WHERE pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE');
COMMENT ON VIEW @extschema@.embed_endpoints IS 'endpoints that serve models, and their health (embed_admin)';
COMMENT ON COLUMN @extschema@.embed_endpoints.secret IS 'name of a secret, never its value';
COMMENT ON COLUMN @extschema@.embed_endpoints.breaker IS
    'closed: in use; resting: pausing after a failure or at the server''s request; open: paused until rests_until after three '
    'failures in a row; half-open: the next request sends one text as a test';
COMMENT ON COLUMN @extschema@.embed_endpoints.problem IS
    'why the server cannot read one of the endpoint''s secrets; NULL: it can read them all';
COMMENT ON COLUMN @extschema@.embed_endpoints.remedy IS
    'shell command, for the server''s machine, that reads the secret''s value from its input and stores it';
COMMENT ON COLUMN @extschema@.embed_endpoints.learned_inputs IS
    'learned limit on texts in flight at the endpoint, over all sessions, since larger numbers were too slow or too large; '
    'NULL: the models'' limits apply';
COMMENT ON COLUMN @extschema@.embed_endpoints.seconds_per_text IS
    'seconds the server needs per text, for its slowest model; NULL: unknown. Setting the endpoint or model again resets this '
    'and learned_inputs';
GRANT SELECT ON @extschema@.embed_endpoints TO PUBLIC;
