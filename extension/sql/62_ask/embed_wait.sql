-- The settings below: it reads stored keys as the caller, and waits for no lock longer than its other steps.
CREATE FUNCTION @extschema@.embed_wait(pipeline text, key jsonb = NULL, timeout interval = '10 s') RETURNS boolean
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '200ms'
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET lc_monetary = 'C'
AS $python$
@boot@
from evergreen.search import wait
return wait.embed_wait(pipeline, key, timeout)
$python$;
COMMENT ON FUNCTION @extschema@.embed_wait(text, jsonb, interval) IS
    'read your writes: true once every change of this row (or of the pipeline) that was committed before the call is searchable; '
    'false when the time is up, and at once when it is a dead letter, or the pipeline is paused or broken. Call it after COMMIT. '
    'Where row security applies to you, a row that you may not see is no row: by key it is true at once, and without a key it does not count';
