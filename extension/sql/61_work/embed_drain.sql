CREATE FUNCTION @extschema@.embed_drain(pipeline text = NULL, max_rows int = 1000, max_runtime interval = '55 s')
RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import drain
return drain.embed_drain(pipeline, max_rows, max_runtime)
$python$;
COMMENT ON FUNCTION @extschema@.embed_drain(text, int, interval) IS
    'one bounded pass in this transaction; returns the number of source rows brought up to date';
