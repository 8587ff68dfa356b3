CREATE FUNCTION @extschema@.embed_sleep(pipeline text = NULL, OUT asleep boolean, OUT seconds float8)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import sleep
return sleep.embed_sleep(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_sleep(text) IS
    'for evergreen worker, between two calls of embed_work(until_idle => true): for how long to wait at most. asleep: until '
    'then commits NOTIFY evergreen_wake; else another worker sleeps, or somebody is writing. The next embed_work ends it';
