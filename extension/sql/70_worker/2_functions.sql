-- No SET clause and no SECURITY DEFINER: either forbids COMMIT. So every name it runs is qualified.
CREATE PROCEDURE @extschema@.embed_work(
    pipeline text = NULL, max_runtime interval = '55 s', until_empty boolean = false, slot int = NULL, until_idle boolean = false)
LANGUAGE plpython3u
AS $python$
@boot@
from evergreen.worker import loop
loop.embed_work(pipeline, max_runtime, until_empty, slot, until_idle)
$python$;
COMMENT ON PROCEDURE @extschema@.embed_work(text, interval, boolean, int, boolean) IS
    'the worker loop: commits between steps and holds no transaction open during a model call; run any number in parallel. '
    'slot: only one session at a time works in a given slot. until_empty: runs until nothing is left. until_idle: runs until '
    'there is nothing to do now, ignoring work scheduled for later';

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
    'runs one bounded pass in this transaction; returns the number of source rows brought up to date';

CREATE FUNCTION @extschema@.embed_claim(pipeline text, max_rows int, lease interval = '5 min', for_model text = NULL)
RETURNS TABLE (token bigint, key jsonb, chunk_no int, text text, hash bytea, model text, model_revision int)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import external_claim
return external_claim.embed_claim(pipeline, max_rows, lease, for_model)
$python$;
COMMENT ON FUNCTION @extschema@.embed_claim(text, int, interval, text) IS
    'claims up to max_rows rows to embed outside the database and returns the texts that need the model, each once, with the '
    'model''s prompt in front if it has one; rows that need no call are brought up to date at once. One call returns one '
    'claim (token) of one generation, so one revision of one model: the active generation first, or only one that uses '
    'for_model. Commit, embed, then embed_submit. The claim lasts for lease, and each embed_submit leaves it at least two thirds of that. No '
    'rows: there is nothing to do now, the pipeline is paused, or its daily budget is spent';

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
    'submits vectors for texts that embed_claim returned, any subset in any order; returns the number of rows brought up to '
    'date, which are those with all their vectors. Other vectors are cached until their row is complete, as are vectors that '
    'arrive after the claim is over. Renews the lease once a third of it has passed, also with empty arrays. tokens: as '
    'billed, if known; otherwise estimated';
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
    'releases claimed rows, by some of the texts that embed_claim returned or all of them (NULL); they can be claimed again '
    'at once. With error, they use up an attempt instead and wait, or become dead letters, as if a model had refused them. '
    'Returns how many rows';

CREATE FUNCTION @extschema@.embed_sleep(pipeline text = NULL, OUT asleep boolean, OUT seconds float8)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import sleep
return sleep.embed_sleep(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_sleep(text) IS
    'for evergreen worker, between two calls of embed_work(until_idle => true): the longest time to wait. asleep: until then, '
    'commits send NOTIFY evergreen_wake; otherwise another worker is asleep, or a transaction is writing. The next embed_work '
    'ends it';

CREATE FUNCTION @extschema@.embed_schedule(workers int = 1, pipeline text = NULL) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import pg_cron
return pg_cron.embed_schedule(workers, pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_schedule(int, text) IS
    'creates pg_cron jobs that keep embed_work running; if pg_cron is installed in another database, returns the commands to '
    'run there';

CREATE FUNCTION embed.cron_problems(workers int) RETURNS TABLE (problem text, hint text)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import pg_cron
return pg_cron.cron_problems(workers)
$python$;
COMMENT ON FUNCTION embed.cron_problems(int) IS
    'internal: what prevents pg_cron from running this many workers in addition to those already scheduled, and the fix';

CREATE FUNCTION @extschema@.embed_unschedule(pipeline text = NULL) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import pg_cron
return pg_cron.embed_unschedule(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_unschedule(text) IS
    'removes the jobs that embed_schedule created for this database and pipeline';
