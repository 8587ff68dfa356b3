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
       m.built_in
FROM embed.model m
CROSS JOIN LATERAL embed.model_limits(m.name, m.provider, m.remote_name, m.dimensions, m.options) l;
COMMENT ON VIEW @extschema@.embed_models IS 'models by name: where they are served and what one request may hold';
COMMENT ON COLUMN @extschema@.embed_models.inputs IS 'texts in one request, by the provider''s limits or the model''s options';
COMMENT ON COLUMN @extschema@.embed_models.request_tokens IS 'tokens in one request; NULL: no limit is known';
COMMENT ON COLUMN @extschema@.embed_models.input_tokens IS 'tokens of one text; NULL: no limit is known';
COMMENT ON COLUMN @extschema@.embed_models.price IS 'what a million tokens cost, as the model was registered with';
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
COMMENT ON VIEW @extschema@.embed_endpoints IS 'where models are served, and whether they answer (embed_admin)';
COMMENT ON COLUMN @extschema@.embed_endpoints.secret IS 'the name of a secret, never its value';
COMMENT ON COLUMN @extschema@.embed_endpoints.breaker IS
    'closed: in use; resting: after a failure, or because the server asked for a pause; open: after three failures in a row, until rests_until; half-open: the next request is one text, to see';
COMMENT ON COLUMN @extschema@.embed_endpoints.problem IS 'why one of its secrets cannot be read by the server; NULL: all can be';
COMMENT ON COLUMN @extschema@.embed_endpoints.remedy IS 'command for a shell on the server''s machine that stores that secret''s value, read from its input';
COMMENT ON COLUMN @extschema@.embed_endpoints.learned_inputs IS
    'the most texts that all sessions have under way there at a time, as more were too slow or too large; NULL: as many as the models'' limits allow';
COMMENT ON COLUMN @extschema@.embed_endpoints.seconds_per_text IS
    'how long the server needs for a text, the slowest model''s; NULL: not known. Both are forgotten when endpoint or model are set again';
GRANT SELECT ON @extschema@.embed_endpoints TO PUBLIC;
