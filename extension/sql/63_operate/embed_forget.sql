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
