CREATE FUNCTION @extschema@.embed_chunk_none() RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $sql$ SELECT '{"chunker": "none"}'::pg_catalog.jsonb $sql$;
COMMENT ON FUNCTION @extschema@.embed_chunk_none() IS 'chunker: one chunk a row';

CREATE FUNCTION @extschema@.embed_chunk_text(size int = 800, overlap int = 0) RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import chunkers
return chunkers.embed_chunk_text(size, overlap)
$python$;
COMMENT ON FUNCTION @extschema@.embed_chunk_text(int, int) IS
    'chunker: plain text packed by paragraph, then sentence, then word; sizes in characters';
