CREATE FUNCTION @extschema@.embed_backfill(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import requeue
requeue.embed_backfill(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_backfill(text) IS
    'has every row of the table checked, in the backfill lane and bit by bit as workers come to it; what is fresh costs no call. '
    'embed_status shows how far it is, embed_pause stops it';
