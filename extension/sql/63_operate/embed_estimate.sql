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
