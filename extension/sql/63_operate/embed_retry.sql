CREATE FUNCTION @extschema@.embed_retry(pipeline text, key jsonb = NULL) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import requeue
return requeue.embed_retry(pipeline, key)
$python$;
COMMENT ON FUNCTION @extschema@.embed_retry(text, jsonb) IS
    'queues dead letters again (one row, or all of the pipeline), and rows that wait after an error, to be tried at once and with '
    'all their attempts; a model or endpoint that rests is sent one text, which decides whether it rests on. Lifts no budget. '
    'Returns how many rows are queued';
