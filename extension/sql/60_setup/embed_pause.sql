CREATE FUNCTION @extschema@.embed_pause(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import alter
alter.embed_pause(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_pause(text) IS 'stops the work on a pipeline; capture goes on';

CREATE FUNCTION @extschema@.embed_resume(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import alter
alter.embed_resume(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_resume(text) IS 'starts the work on a paused pipeline again';
