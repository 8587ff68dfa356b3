CREATE FUNCTION @extschema@.embed_setting(name text, value text = NULL) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import alter
return alter.embed_setting(name, value)
$python$;
COMMENT ON FUNCTION @extschema@.embed_setting(text, text) IS
    'a setting of this database: default_model, cache_retention, cache_limit, lease or index_from; with a value, sets it first (embed_admin)';
