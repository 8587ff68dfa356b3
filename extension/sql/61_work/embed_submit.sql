-- pgvector may live anywhere, and this server's major version has no @extschema:vector@.
SELECT pg_catalog.set_config('search_path', pg_catalog.concat('pg_catalog, ', pg_catalog.quote_ident(n.nspname), ', pg_temp'), true)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'vector';
CREATE FUNCTION @extschema@.embed_submit(
    pipeline text, token bigint, hashes bytea[], vectors vector[], tokens bigint = NULL)
RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.worker import external_submit
return external_submit.embed_submit(pipeline, token, hashes, vectors, tokens)
$python$;
COMMENT ON FUNCTION @extschema@.embed_submit(text, bigint, bytea[], vector[], bigint) IS
    'vectors of texts that embed_claim handed out, any of them in any order; returns the rows brought up to date: those that have all '
    'their vectors now. The others'' vectors are kept meanwhile, and so are those that come when the claim is over. Renews the '
    'lease when a third of it is over, also with empty arrays. tokens: as billed, where that is known; else they are estimated';
SET LOCAL search_path TO pg_catalog, pg_temp;
