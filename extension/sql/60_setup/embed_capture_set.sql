CREATE FUNCTION @extschema@.embed_capture_set(pipeline text, capture text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import alter
alter.embed_capture_set(pipeline, capture)
$python$;
COMMENT ON FUNCTION @extschema@.embed_capture_set(text, text) IS
    'how changes of the source are seen from now on: by triggers, in the WAL (cdc), or by your own embed_touch (manual); '
    'switches without a gap, to cdc as soon as a worker has made the replication slot';
