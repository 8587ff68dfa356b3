CREATE VIEW @extschema@.embed_endpoints WITH (security_barrier) AS
SELECT e.name AS endpoint,
       e.url,
       e.secret,
       e.options,
       CASE WHEN s.failures >= 3 THEN CASE WHEN s.rests_until IS NULL THEN 'half-open' ELSE 'open' END
            WHEN s.rests_until IS NULL THEN 'closed' ELSE 'resting' END AS breaker,
       s.failures,
       s.rests_until,
       ARRAY(SELECT m.name FROM embed.model m WHERE m.endpoint = e.name ORDER BY m.name) AS models
FROM embed.endpoint e
CROSS JOIN LATERAL embed.endpoint_state(e.id) s
WHERE pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE');
COMMENT ON VIEW @extschema@.embed_endpoints IS 'where models are served, and whether they answer (embed_admin)';
COMMENT ON COLUMN @extschema@.embed_endpoints.secret IS 'the name of a secret, never its value';
COMMENT ON COLUMN @extschema@.embed_endpoints.breaker IS
    'closed: in use; resting: after a failure, or because the server asked for a pause; open: after three failures in a row, until rests_until; half-open: the next request is one text, to see';
GRANT SELECT ON @extschema@.embed_endpoints TO PUBLIC;
