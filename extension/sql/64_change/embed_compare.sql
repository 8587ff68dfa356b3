CREATE FUNCTION @extschema@.embed_compare(pipeline text, queries text[] = NULL, k int = 10)
RETURNS TABLE (query text, overlap float8, active_keys jsonb, building_keys jsonb)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import compare
return compare.embed_compare(pipeline, queries, k)
$python$;
COMMENT ON FUNCTION @extschema@.embed_compare(text, text[], int) IS
    'the k nearest rows in the active generation and in the one that is being built, and the share that both find; '
    'texts of sample rows serve as questions where none are given';
