-- The settings: texts look the same as in a worker's reader function.
CREATE FUNCTION @extschema@.embed_preview(
    source regclass, columns text[] = NULL, template text = NULL, chunker jsonb = NULL, model text = NULL)
RETURNS TABLE (key jsonb, chunk_no int, chunk text, tokens int)
LANGUAGE plpython3u VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET "TimeZone" = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
AS $python$
@boot@
from evergreen.operate import preview
return preview.embed_preview(source, columns, template, chunker, model)
$python$;
COMMENT ON FUNCTION @extschema@.embed_preview(regclass, text[], text, jsonb, text) IS
    'previews embed_create on a table that you may read: returns the chunks of its first three rows (a row without text has '
    'one line and no chunk) and, as a NOTICE, estimates rows, texts, tokens, calls, cost and seconds for the whole table, '
    'from a sample of about 1,000 rows if it has more; texts already embedded are not deducted. Creates nothing, calls no '
    'model';

CREATE FUNCTION @extschema@.embed_touch(pipeline text, VARIADIC keys jsonb[]) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import requeue
return requeue.embed_touch(pipeline, keys)
$python$;
COMMENT ON FUNCTION @extschema@.embed_touch(text, jsonb[]) IS 'queues rows to be checked, by key; returns how many';

@vector_search_path@
CREATE FUNCTION @extschema@.embed_import_vectors(pipeline text, texts text[], vectors vector[], keys jsonb[] = NULL)
RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import import_vectors
return import_vectors.embed_import_vectors(pipeline, texts, vectors, keys)
$python$;
COMMENT ON FUNCTION @extschema@.embed_import_vectors(text, text[], vector[], jsonb[]) IS
    'imports vectors computed elsewhere with the pipeline''s model, together with the texts exactly as sent. They are cached '
    'for cache_retention, so rows with one of these texts need no model call. No row becomes fresh at once: the next drain '
    'does that if the text is still the same. keys: the texts'' rows, so that embed_forget finds them. Returns how many of '
    'the texts now need no call; erased texts and texts that would be truncated or refused for their length are skipped. '
    'embed_admin only: all pipelines of a model share its vectors';
SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE FUNCTION @extschema@.embed_estimate(
    pipeline text, OUT texts bigint, OUT tokens bigint, OUT calls bigint, OUT cost float8, OUT seconds float8,
    OUT batch_texts bigint, OUT batch_cost float8)
RETURNS SETOF record
LANGUAGE plpython3u VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import estimate
return estimate.embed_estimate(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_estimate(text) IS
    'estimates the cost of draining a pipeline now: changed rows, failed rows waiting for a retry, and the rest of a running '
    'backfill, without dead letters and rows a worker has claimed. Up to 5,000 rows of each generation are prepared and '
    'looked up, so texts is exact; beyond that the rest is extrapolated. tokens is estimated from characters, cost from the '
    'model''s option price (NULL without one), seconds from the endpoint''s limits and half a second per request. '
    'batch_texts of the texts go through the provider''s batch API (option backfill_via), for batch_cost of the cost; calls and '
    'seconds are without them. Calls no model';

CREATE FUNCTION @extschema@.embed_batch_cancel(id bigint) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import batch_cancel
return batch_cancel.embed_batch_cancel(id)
$python$;
COMMENT ON FUNCTION @extschema@.embed_batch_cancel(bigint) IS
    'cancels a batch of a pipeline that you administer: its texts are embedded by requests, and a worker cancels it at the '
    'provider, which bills what it has done by then; returns how many texts had no vector yet';

CREATE FUNCTION @extschema@.embed_explain(pipeline text, key jsonb) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import explain
return explain.embed_explain(pipeline, key)
$python$;
COMMENT ON FUNCTION @extschema@.embed_explain(text, jsonb) IS
    'explains one row: its chunks, state, last change, attempts, errors, and whether it would need a model call';

CREATE FUNCTION @extschema@.embed_verify(pipeline text, repair boolean = false)
RETURNS TABLE (state text, rows bigint)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import verify
return verify.embed_verify(pipeline, repair)
$python$;
COMMENT ON FUNCTION @extschema@.embed_verify(text, boolean) IS
    'recomputes every fingerprint of a pipeline and counts rows by state: fresh, stale, missing, orphan, mixed; repair queues '
    'the rows that are not fresh';

CREATE FUNCTION @extschema@.embed_retry(pipeline text, key jsonb = NULL) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import requeue
return requeue.embed_retry(pipeline, key)
$python$;
COMMENT ON FUNCTION @extschema@.embed_retry(text, jsonb) IS
    'requeues dead letters (one row, or all of the pipeline) and rows waiting after an error, to be tried at once with all '
    'their attempts. A resting model or endpoint is sent one text, which decides whether it keeps resting. Lifts no budget. '
    'Returns how many rows are queued';

CREATE FUNCTION @extschema@.embed_backfill(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import requeue
requeue.embed_backfill(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_backfill(text) IS
    'checks every row of the table, in the backfill lane and step by step as workers get to it; fresh rows cost no model '
    'call. embed_status shows its progress, embed_pause stops it';

CREATE FUNCTION @extschema@.embed_forget(pipeline text, key jsonb) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import forget
return forget.embed_forget(pipeline, key)
$python$;
COMMENT ON FUNCTION @extschema@.embed_forget(text, jsonb) IS
    'erases all data that this pipeline has of a row: texts and vectors of every generation, cached vectors of current and '
    'earlier texts, queue entries, dead letters and their messages; returns how many texts. If the row is still in its table, '
    'its next change embeds it again: delete it there too, before or after. A cached vector whose text another row had later '
    'belongs to that row. VACUUM removes the dead rows from disk';
