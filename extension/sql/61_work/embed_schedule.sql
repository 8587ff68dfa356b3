CREATE FUNCTION @extschema@.embed_schedule(workers int = 1, pipeline text = NULL) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import pg_cron
return pg_cron.embed_schedule(workers, pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_schedule(int, text) IS
    'pg_cron jobs that run embed_work for ever; where pg_cron lives in another database, returns what to run there';

CREATE FUNCTION embed.cron_problems(workers int) RETURNS TABLE (problem text, hint text)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import pg_cron
return pg_cron.cron_problems(workers)
$python$;
COMMENT ON FUNCTION embed.cron_problems(int) IS
    'internal: what keeps pg_cron from running so many workers beside those that are scheduled, and what mends it';

CREATE FUNCTION @extschema@.embed_unschedule(pipeline text = NULL) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import pg_cron
return pg_cron.embed_unschedule(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_unschedule(text) IS 'removes what embed_schedule made for this database and pipeline';
