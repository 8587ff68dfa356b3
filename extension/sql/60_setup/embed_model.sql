CREATE FUNCTION @extschema@.embed_model_add(
    name text, provider text, dimensions int, remote_name text = NULL, endpoint text = NULL, options jsonb = '{}')
RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import models
models.embed_model_add(name, provider, dimensions, remote_name, endpoint, options)
$python$;
COMMENT ON FUNCTION @extschema@.embed_model_add(text, text, int, text, text, jsonb) IS
    'registers a model under a name (embed_admin). provider: openai (and what speaks as it does), ollama, cohere, voyage, '
    'function or hash; remote_name: what it is called there, or your function; options: price, prompts, what a request may hold';

CREATE FUNCTION @extschema@.embed_model_set(name text, options jsonb) RETURNS jsonb
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import models
return models.embed_model_set(name, options)
$python$;
COMMENT ON FUNCTION @extschema@.embed_model_set(text, jsonb) IS
    'merges options into those of a model that may be in use (embed_admin): inputs, request_tokens, input_tokens, encoding_format, price; null resets one. Returns all its options. Nothing is embedded again; prompts and dimensions are another model';

CREATE FUNCTION @extschema@.embed_model_drop(name text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import models
models.embed_model_drop(name)
$python$;
COMMENT ON FUNCTION @extschema@.embed_model_drop(text) IS 'forgets a model that no pipeline uses (embed_admin)';

CREATE FUNCTION @extschema@.embed_endpoint_set(name text, url text, secret text = NULL, options jsonb = '{}')
RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import endpoints
endpoints.embed_endpoint_set(name, url, secret, options)
$python$;
COMMENT ON FUNCTION @extschema@.embed_endpoint_set(text, text, text, jsonb) IS
    'where models are served (embed_admin): url, the name of a secret, never its value; options: time-outs, limits, proxy, allow_http, query and headers (objects of names and values; {"secret": "name"} is the value of a secret)';
