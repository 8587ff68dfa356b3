CREATE FUNCTION @extschema@.embed_explain(pipeline text, key jsonb) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import explain
return explain.embed_explain(pipeline, key)
$python$;
COMMENT ON FUNCTION @extschema@.embed_explain(text, jsonb) IS
    'one row''s whole story: its chunks, state, last change, attempts, errors, and whether the model would be called';
