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
