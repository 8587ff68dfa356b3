CREATE FUNCTION @extschema@.embed_alter(pipeline text, options jsonb) RETURNS jsonb
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import alter
return alter.embed_alter(pipeline, options)
$python$;
COMMENT ON FUNCTION @extschema@.embed_alter(text, jsonb) IS
    'merges options into a pipeline''s (null resets one) and returns them all: on_too_long (fail or truncate), max_attempts, '
    'live_share, bulk_lane (backfill or live), daily_tokens, daily_cost, previous_kept, slot_limit, wakeup, language; embed_create takes the same';
