-- The settings: texts look as a worker's reader function would have them.
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
    'what embed_create would make of a table that you may read: the chunks of its first three rows (a row without text has '
    'one line and no chunk), and as a NOTICE the rows, texts, tokens, calls, cost and seconds of the whole table, by a sample of '
    'about 1000 rows where it has more; texts that are embedded already are not taken off. Creates nothing, calls no model';

CREATE FUNCTION @extschema@.embed_touch(pipeline text, VARIADIC keys jsonb[]) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import requeue
return requeue.embed_touch(pipeline, keys)
$python$;
COMMENT ON FUNCTION @extschema@.embed_touch(text, jsonb[]) IS 'marks rows to be checked, by key; returns how many';

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
    'vectors made elsewhere by the model of a pipeline, with the texts as they were sent: kept for cache_retention, so that rows whose '
    'text is one of these cost no call. Makes no row fresh: the next drain does that, if the text is still the same. keys: the texts'' '
    'rows, so that embed_forget finds them. Returns how many of the texts need no call now; those that would be cut or refused for '
    'their length, and erased ones, are not taken. embed_admin only: vectors are shared by all pipelines of a model';
SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE FUNCTION @extschema@.embed_estimate(
    pipeline text, OUT texts bigint, OUT tokens bigint, OUT calls bigint, OUT cost float8, OUT seconds float8)
RETURNS SETOF record
LANGUAGE plpython3u VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import estimate
return estimate.embed_estimate(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_estimate(text) IS
    'what draining a pipeline would cost now: changed rows, failed ones that wait, and what a running backfill has left, without '
    'what a worker has just now and without dead letters. Up to 5000 rows (of each generation) are prepared and looked up, so '
    'texts is exact; of more, the rest is taken to be like these. tokens is reckoned from the characters, cost from the '
    'model''s option price (NULL without one), seconds from the endpoint''s limits and half a second a request. Calls no model';

CREATE FUNCTION @extschema@.embed_explain(pipeline text, key jsonb) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import explain
return explain.embed_explain(pipeline, key)
$python$;
COMMENT ON FUNCTION @extschema@.embed_explain(text, jsonb) IS
    'one row''s whole story: its chunks, state, last change, attempts, errors, and whether the model would be called';

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
    'recomputes every fingerprint of a pipeline and counts rows by state: fresh, stale, missing, orphan, mixed; '
    'repair queues what is not fresh';

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

CREATE FUNCTION @extschema@.embed_forget(pipeline text, key jsonb) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import forget
return forget.embed_forget(pipeline, key)
$python$;
COMMENT ON FUNCTION @extschema@.embed_forget(text, jsonb) IS
    'erases what this pipeline has of a row: texts and vectors of every generation, kept vectors of these and of earlier texts, '
    'queue entries, dead letters and their messages; returns how many texts. A row that is still in its table is embedded again '
    'by its next change: delete it there too, before or after. A kept vector whose text another row had later is that row''s. '
    'Dead rows on disk go with the next VACUUM';
