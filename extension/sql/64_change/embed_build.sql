CREATE FUNCTION @extschema@.embed_build(
    pipeline text, model text = NULL, chunker jsonb = NULL, columns text[] = NULL, template text = NULL,
    options jsonb = '{}') RETURNS int
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import build
return build.embed_build(pipeline, model, chunker, columns, template, options)
$python$;
COMMENT ON FUNCTION @extschema@.embed_build(text, text, jsonb, text[], text, jsonb) IS
    'begins a generation with another model, chunker or text beside the active one; both are kept fresh, searches go on unchanged';
