CREATE FUNCTION @extschema@.embed_create(
    name text, source regclass, columns text[] = NULL, template text = NULL, model text = NULL, chunker jsonb = NULL,
    capture text = 'trigger', backfill boolean = true, if_not_exists boolean = false, view_name name = NULL,
    only_if name = NULL, options jsonb = '{}') RETURNS int
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.pipelines import create
return create.embed_create(name, source, columns, template, model, chunker, capture, backfill, if_not_exists,
                           view_name, only_if, options)
$python$;
COMMENT ON FUNCTION @extschema@.embed_create(text, regclass, text[], text, text, jsonb, text, boolean, boolean, name, name, jsonb) IS
    'keeps embeddings of a table''s text fresh from now on: capture, queue and view; returns the pipeline''s id. The text is that of '
    'columns, joined by blank lines, or of a template with $column in it; or columns are cut and the template has $chunk where each chunk stands';
