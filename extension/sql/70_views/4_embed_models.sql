-- One home for limits: the providers' own code. It runs as whoever asks, and touches no table.
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
COMMENT ON FUNCTION embed.model_limits(text, text, text, int, jsonb) IS 'internal: what one request to a model may hold';

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
