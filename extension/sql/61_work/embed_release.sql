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
