CREATE FUNCTION embed.index_statement(generation int) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import indexing
return indexing.index_statement(generation)
$python$;
COMMENT ON FUNCTION embed.index_statement(int) IS 'internal: the statement that makes the index over a generation''s vectors';
