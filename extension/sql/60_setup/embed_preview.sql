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
