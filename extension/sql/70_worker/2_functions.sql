-- No SET clause and no SECURITY DEFINER: either would forbid COMMIT. So everything it runs is qualified.
CREATE PROCEDURE @extschema@.embed_work(
    pipeline text = NULL, max_runtime interval = '55 s', until_empty boolean = false, slot int = NULL, until_idle boolean = false)
LANGUAGE plpython3u
AS $python$
@boot@
from evergreen.worker import loop
loop.embed_work(pipeline, max_runtime, until_empty, slot, until_idle)
$python$;
COMMENT ON PROCEDURE @extschema@.embed_work(text, interval, boolean, int, boolean) IS
    'the worker loop: commits between steps and holds no transaction while a model is called; any number side by side. '
    'slot: only one session at a time works in a slot of this number. until_empty: until nothing is left. until_idle: until '
    'there is nothing to do now, whatever has to wait for its time';

CREATE FUNCTION @extschema@.embed_drain(pipeline text = NULL, max_rows int = 1000, max_runtime interval = '55 s')
RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import drain
return drain.embed_drain(pipeline, max_rows, max_runtime)
$python$;
COMMENT ON FUNCTION @extschema@.embed_drain(text, int, interval) IS
    'one bounded pass in this transaction; returns the number of source rows brought up to date';

CREATE FUNCTION @extschema@.embed_claim(pipeline text, max_rows int, lease interval = '5 min', for_model text = NULL)
RETURNS TABLE (token bigint, key jsonb, chunk_no int, text text, hash bytea, model text)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import external_claim
return external_claim.embed_claim(pipeline, max_rows, lease, for_model)
$python$;
COMMENT ON FUNCTION @extschema@.embed_claim(text, int, interval, text) IS
    'claims up to max_rows rows for compute outside the database and returns the texts that need a model, each once, with any '
    'prompt of the model before it; rows that need none are brought up to date at once. All of one call are of one claim (token) '
    'and one generation, hence one model: the active one first, or of for_model only. Commit, embed, then embed_submit. The claim is good '
    'for the time of the lease, and for two thirds of it at least from each embed_submit on. No row: there is nothing to do now, the pipeline is paused, or '
    'its daily budget is spent';

@vector_search_path@
CREATE FUNCTION @extschema@.embed_submit(
    pipeline text, token bigint, hashes bytea[], vectors vector[], tokens bigint = NULL)
RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import external_submit
return external_submit.embed_submit(pipeline, token, hashes, vectors, tokens)
$python$;
COMMENT ON FUNCTION @extschema@.embed_submit(text, bigint, bytea[], vector[], bigint) IS
    'vectors of texts that embed_claim handed out, any of them in any order; returns the rows brought up to date: those that have all '
    'their vectors now. The others'' vectors are kept meanwhile, and so are those that come when the claim is over. Renews the '
    'lease when a third of it is over, also with empty arrays. tokens: as billed, where that is known; else they are estimated';
SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE FUNCTION @extschema@.embed_release(pipeline text, token bigint, hashes bytea[] = NULL, error text = NULL) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import external_submit
return external_submit.embed_release(pipeline, token, hashes, error)
$python$;
COMMENT ON FUNCTION @extschema@.embed_release(text, bigint, bytea[], text) IS
    'gives back the rows of some texts that embed_claim handed out, or of all (NULL); anybody may claim them at once. With an error '
    'they lose an attempt instead, and wait, or become dead letters, as after a refusal by a model. Returns how many rows';

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
