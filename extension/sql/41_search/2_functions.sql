@vector_search_path@
CREATE FUNCTION @extschema@.embed(text text, model text = NULL) RETURNS vector
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.search import query
return query.embed(text, model)
$python$;
COMMENT ON FUNCTION @extschema@.embed(text, text) IS
    'embeds a text with a model (NULL: the database''s default model); paid models require embed_user';

CREATE FUNCTION @extschema@.embed_query(pipeline text, text text) RETURNS vector
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.search import query
return query.embed_query(pipeline, text)
$python$;
COMMENT ON FUNCTION @extschema@.embed_query(text, text) IS
    'embeds a search query with the model of the pipeline''s active generation';

SET LOCAL search_path TO pg_catalog, pg_temp;

-- iterative_scan: the index returns more rows if row security or stale rows leave too few.
CREATE FUNCTION @extschema@.embed_search(
    pipeline text, query text, k int = 10, mode text = 'vector', stale text = 'serve', max_per_key int = NULL,
    min_score float8 = NULL)
RETURNS TABLE (key jsonb, chunk_no int, chunk text, score float8, is_stale boolean)
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
SET hnsw.iterative_scan = 'strict_order'
SET jit = off
AS $python$
@boot@
from evergreen.search import search
return search.embed_search(pipeline, query, k, mode, stale, max_per_key, min_score)
$python$;
COMMENT ON FUNCTION @extschema@.embed_search(text, text, int, text, text, int, float8) IS
    'returns the k best chunks for a query among the rows the caller may see; mode: vector (score: cosine similarity), '
    'keyword (full-text search) or hybrid (both, by reciprocal rank fusion); a higher score is better';

CREATE FUNCTION @extschema@.embed_search_rows_sql(source regclass, query text, k int, pipeline text) RETURNS text[]
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.search import rows
return rows.search_rows_sql(source, query, k, pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_search_rows_sql(regclass, text, int, text) IS
    'internal: the query that embed_search_rows runs, the query vector for its $1, and a query that tells whether to retry';

-- PL/Python accepts no polymorphic argument, and PL/pgSQL no input and output of the same name: hence two functions.
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
    'internal: the pipeline of a table that has exactly one';

CREATE FUNCTION @extschema@.embed_search_rows("row" anyelement, query text, k int = 10, pipeline text = NULL)
RETURNS TABLE ("row" anyelement, chunk text, score float8)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT t.source_row, t.chunk, t.score FROM @extschema@.embed_search_rows_typed($1, $2, $3, $4) t
$sql$;
COMMENT ON FUNCTION @extschema@.embed_search_rows(anyelement, text, int, text) IS
    'returns the k source rows nearest to a query, whole and typed: embed_search_rows(NULL::docs, ''question'')';

-- The settings: it reads stored keys as the caller, and waits no longer for locks than its other steps do.
CREATE FUNCTION @extschema@.embed_wait(pipeline text, key jsonb = NULL, timeout interval = '10 s') RETURNS boolean
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '200ms'
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET lc_monetary = 'C'
AS $python$
@boot@
from evergreen.search import wait
return wait.embed_wait(pipeline, key, timeout)
$python$;
COMMENT ON FUNCTION @extschema@.embed_wait(text, jsonb, interval) IS
    'read your writes: returns true once every change to this row (or pipeline) committed before the call is searchable; '
    'false on timeout, and at once if the row is a dead letter or the pipeline is paused or broken. Call it after COMMIT. '
    'Under row security, rows you may not see count as absent: by key it returns true at once, and without a key they are '
    'ignored';
