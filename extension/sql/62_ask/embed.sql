-- pgvector may live anywhere, and this server's major version has no @extschema:vector@.
SELECT pg_catalog.set_config('search_path', pg_catalog.concat('pg_catalog, ', pg_catalog.quote_ident(n.nspname), ', pg_temp'), true)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'vector';
CREATE FUNCTION @extschema@.embed(text text, model text = NULL) RETURNS vector
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.search import query
return query.embed(text, model)
$python$;
COMMENT ON FUNCTION @extschema@.embed(text, text) IS
    'the vector of a text by a model (NULL: this database''s default model); models that cost money need embed_user';

CREATE FUNCTION @extschema@.embed_query(pipeline text, text text) RETURNS vector
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.search import query
return query.embed_query(pipeline, text)
$python$;
COMMENT ON FUNCTION @extschema@.embed_query(text, text) IS 'the vector of a question, by the model that the pipeline''s view shows now';

SET LOCAL search_path TO pg_catalog, pg_temp;
