CREATE FUNCTION @extschema@.embed_promote(pipeline text, min_coverage float8 = 1.0, min_overlap float8 = NULL) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import promote
promote.embed_promote(pipeline, min_coverage, min_overlap)
$python$;
COMMENT ON FUNCTION @extschema@.embed_promote(text, float8, float8) IS
    'makes the generation that is being built the active one, for all searches at once; refused below min_coverage (the share '
    'of the active generation''s rows that it has) or min_overlap (mean of embed_compare); a NOTICE says if its index is not there yet';

CREATE FUNCTION @extschema@.embed_rollback(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import promote
promote.embed_rollback(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_rollback(text) IS
    'makes the previous generation the active one again, at once: it is kept fresh for previous_kept, then retired';
