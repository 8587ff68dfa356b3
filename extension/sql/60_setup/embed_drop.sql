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
    'removes a pipeline: triggers, queue, view and vectors; kept vectors move to the source''s schema';
