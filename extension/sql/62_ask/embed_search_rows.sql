CREATE FUNCTION @extschema@.embed_search_rows_sql(source regclass, query text, k int, pipeline text) RETURNS text[]
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.search import rows
return rows.search_rows_sql(source, query, k, pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_search_rows_sql(regclass, text, int, text) IS
    'internal: the statement that embed_search_rows runs, the question''s vector as its $1, and one that tells whether to ask again';

-- PL/Python takes no polymorphic argument, and PL/pgSQL no input and output of one name: hence two functions.
CREATE FUNCTION @extschema@.embed_search_rows_typed(wanted anyelement, query text, k int, pipeline text)
RETURNS TABLE (source_row anyelement, chunk text, score float8)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET hnsw.iterative_scan = 'strict_order'
SET jit = off
AS $plpgsql$
DECLARE
    source pg_catalog.regclass = (SELECT t.typrelid FROM pg_catalog.pg_type t
                                  WHERE t.oid = pg_catalog.pg_typeof(wanted)::pg_catalog.oid);
    parts text[];
    is_another boolean;
BEGIN
    FOR tries IN 1 .. 3 LOOP
        parts = @extschema@.embed_search_rows_sql(source, query, k, pipeline);
        RETURN QUERY EXECUTE parts[1] USING parts[2];
        IF FOUND THEN
            RETURN;
        END IF;
        EXECUTE parts[3] INTO is_another;
        IF NOT is_another THEN
            RETURN;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'another generation was promoted since this transaction''s snapshot'
        USING ERRCODE = 'serialization_failure', HINT = 'Try the transaction again.';
END
$plpgsql$;
COMMENT ON FUNCTION @extschema@.embed_search_rows_typed(anyelement, text, int, text) IS 'internal: body of embed_search_rows';

CREATE FUNCTION @extschema@.embed_search_rows_pipeline(source regclass) RETURNS text
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.search import rows
return rows.only_pipeline(source)
$python$;
COMMENT ON FUNCTION @extschema@.embed_search_rows_pipeline(regclass) IS
    'internal: the pipeline of a table that has just one';

CREATE FUNCTION @extschema@.embed_search_rows("row" anyelement, query text, k int = 10, pipeline text = NULL)
RETURNS TABLE ("row" anyelement, chunk text, score float8)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT t.source_row, t.chunk, t.score FROM @extschema@.embed_search_rows_typed($1, $2, $3, $4) t
$sql$;
COMMENT ON FUNCTION @extschema@.embed_search_rows(anyelement, text, int, text) IS
    'the k source rows nearest to a question, whole and typed: embed_search_rows(NULL::docs, ''question'')';
