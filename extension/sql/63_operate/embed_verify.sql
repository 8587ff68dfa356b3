CREATE FUNCTION @extschema@.embed_verify(pipeline text, repair boolean = false)
RETURNS TABLE (state text, rows bigint)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import verify
return verify.embed_verify(pipeline, repair)
$python$;
COMMENT ON FUNCTION @extschema@.embed_verify(text, boolean) IS
    'recomputes every fingerprint of a pipeline and counts rows by state: fresh, stale, missing, orphan, mixed; '
    'repair queues what is not fresh';
