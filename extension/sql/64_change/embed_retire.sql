CREATE FUNCTION @extschema@.embed_retire(pipeline text, generation int = NULL) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import retire
retire.embed_retire(pipeline, generation)
$python$;
COMMENT ON FUNCTION @extschema@.embed_retire(text, int) IS
    'drops the previous generations and their vectors, or the one that is named (a building one too); never the active one';
