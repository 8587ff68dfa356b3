CREATE FUNCTION @extschema@.embed_touch(pipeline text, VARIADIC keys jsonb[]) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import requeue
return requeue.embed_touch(pipeline, keys)
$python$;
COMMENT ON FUNCTION @extschema@.embed_touch(text, jsonb[]) IS 'marks rows to be checked, by key; returns how many';
