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
