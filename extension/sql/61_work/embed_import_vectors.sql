-- pgvector may live anywhere, and this server's major version has no @extschema:vector@.
SELECT pg_catalog.set_config('search_path', pg_catalog.concat('pg_catalog, ', pg_catalog.quote_ident(n.nspname), ', pg_temp'), true)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'vector';
CREATE FUNCTION @extschema@.embed_import_vectors(pipeline text, texts text[], vectors vector[], keys jsonb[] = NULL)
RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import import_vectors
return import_vectors.embed_import_vectors(pipeline, texts, vectors, keys)
$python$;
COMMENT ON FUNCTION @extschema@.embed_import_vectors(text, text[], vector[], jsonb[]) IS
    'vectors made elsewhere by the model of a pipeline, with the texts as they were sent: kept for cache_retention, so that rows whose '
    'text is one of these cost no call. Makes no row fresh: the next drain does that, if the text is still the same. keys: the texts'' '
    'rows, so that embed_forget finds them. Returns how many of the texts need no call now; those that would be cut or refused for '
    'their length, and erased ones, are not taken. embed_admin only: vectors are shared by all pipelines of a model';
SET LOCAL search_path TO pg_catalog, pg_temp;
