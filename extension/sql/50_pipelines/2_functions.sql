CREATE FUNCTION @extschema@.embed_create(
    name text, source regclass, columns text[] = NULL, template text = NULL, model text = NULL, chunker jsonb = NULL,
    capture text = 'trigger', backfill boolean = true, if_not_exists boolean = false, view_name name = NULL,
    only_if name = NULL, options jsonb = '{}', key text[] = NULL, depends jsonb = NULL) RETURNS int
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import create
return create.embed_create(name, source, columns, template, model, chunker, capture, backfill, if_not_exists,
                           view_name, only_if, options, key, depends)
$python$;
COMMENT ON FUNCTION @extschema@.embed_create(text, regclass, text[], text, text, jsonb, text, boolean, boolean, name, name, jsonb, text[], jsonb) IS
    'creates a pipeline (capture, queue and view) that keeps embeddings of a table''s text fresh; returns its id. The text '
    'comes from columns, joined by blank lines, or from a template with $column in it; with both, columns are chunked and the '
    'template has $chunk in place of each chunk. For a view, key names the columns that identify a row, and depends says for each '
    'table under it which of its columns lead to which of the view''s';

CREATE FUNCTION @extschema@.embed_alter(pipeline text, options jsonb) RETURNS jsonb
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import alter
return alter.embed_alter(pipeline, options)
$python$;
COMMENT ON FUNCTION @extschema@.embed_alter(text, jsonb) IS
    'merges options into a pipeline''s (null resets one) and returns them all: on_too_long (fail or truncate), max_attempts, '
    'live_share, bulk_lane (backfill or live), daily_tokens, daily_cost, max_lag, previous_kept, slot_limit, wakeup, language; '
    'embed_create takes the same options';

CREATE FUNCTION @extschema@.embed_setting(name text, value text = NULL) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import alter
return alter.embed_setting(name, value)
$python$;
COMMENT ON FUNCTION @extschema@.embed_setting(text, text) IS
    'returns a setting of this database: default_model, cache_retention, cache_limit, lease or index_from; given a value, '
    'sets it first (embed_admin)';

CREATE FUNCTION @extschema@.embed_pause(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import alter
alter.embed_pause(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_pause(text) IS 'pauses work on a pipeline; capture continues';

CREATE FUNCTION @extschema@.embed_resume(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import alter
alter.embed_resume(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_resume(text) IS 'resumes work on a paused pipeline';

CREATE FUNCTION @extschema@.embed_capture_set(pipeline text, capture text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import alter
alter.embed_capture_set(pipeline, capture)
$python$;
COMMENT ON FUNCTION @extschema@.embed_capture_set(text, text) IS
    'sets how changes to the source are captured: by triggers (trigger), from the WAL (cdc), or by your own embed_touch calls '
    '(manual). Switches without a gap; switching to cdc takes effect once a worker has created the replication slot';

CREATE FUNCTION @extschema@.embed_get_def(pipeline text) RETURNS text
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import definition
return definition.embed_get_def(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_get_def(text) IS 'returns the calls that recreate a pipeline';

CREATE FUNCTION @extschema@.embed_drop(pipeline text, keep_embeddings boolean = false, if_exists boolean = false)
RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import drop
drop.embed_drop(pipeline, keep_embeddings, if_exists)
$python$;
COMMENT ON FUNCTION @extschema@.embed_drop(text, boolean, boolean) IS
    'drops a pipeline: triggers, queue, view and vectors; keep_embeddings moves the vectors to the source''s schema instead';

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
    'registers a model under a name (embed_admin). provider: openai (and compatible servers), ollama, cohere, voyage, '
    'function or hash; remote_name: the provider''s name for the model, or your function; options: price, prompts, request '
    'limits';

CREATE FUNCTION @extschema@.embed_model_set(name text, options jsonb) RETURNS jsonb
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import models
return models.embed_model_set(name, options)
$python$;
COMMENT ON FUNCTION @extschema@.embed_model_set(text, jsonb) IS
    'merges options into a model''s, even while it is in use (embed_admin), and returns them all: inputs, request_tokens, '
    'input_tokens, encoding_format, price, watch, drift_limit; null resets one (watch: turns it off). Nothing is re-embedded; different prompts or dimensions require a '
    'new model';

CREATE FUNCTION @extschema@.embed_model_accept(name text) RETURNS int
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import models
return models.embed_model_accept(name)
$python$;
COMMENT ON FUNCTION @extschema@.embed_model_accept(text) IS
    'after embed_status.state became model changed: takes the model as it answers now for the one that made the vectors '
    '(embed_admin). No vector changes, and waiting rows are embedded. Returns the revision, which stays. To embed everything '
    'with the new model, use embed_build() instead';

CREATE FUNCTION @extschema@.embed_model_drop(name text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import models
models.embed_model_drop(name)
$python$;
COMMENT ON FUNCTION @extschema@.embed_model_drop(text) IS 'removes a model that no pipeline uses (embed_admin)';

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
    'creates or changes an endpoint, where models are served (embed_admin): url; secret: the name of a secret, never its '
    'value; options: timeouts, limits, proxy, allow_http, query and headers (objects of names and values; {"secret": "name"} '
    'stands for a secret''s value)';
