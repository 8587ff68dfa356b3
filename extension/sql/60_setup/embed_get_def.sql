CREATE FUNCTION @extschema@.embed_get_def(pipeline text) RETURNS text
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import definition
return definition.embed_get_def(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_get_def(text) IS 'the calls that recreate a pipeline';
