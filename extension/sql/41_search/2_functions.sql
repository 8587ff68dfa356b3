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

-- iterative_scan: the index returns more rows if row security, a filter or stale rows leave too few. gin_fuzzy_search_limit: set
-- for single words, and reset at the end. DateStyle and the next two: stored keys and values of a filter are read as written.
CREATE FUNCTION @extschema@.embed_search(
    pipeline text, query text, k int = 10, mode text = 'vector', stale text = 'serve', max_per_key int = NULL,
    min_score float8 = NULL, filter jsonb = NULL)
RETURNS TABLE (key jsonb, chunk_no int, chunk text, score float8, is_stale boolean)
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
SET hnsw.iterative_scan = 'strict_order'
SET gin_fuzzy_search_limit = 0
SET jit = off
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET lc_monetary = 'C'
AS $python$
@boot@
from evergreen.search import search
return search.embed_search(pipeline, query, k, mode, stale, max_per_key, min_score, filter)
$python$;
COMMENT ON FUNCTION @extschema@.embed_search(text, text, int, text, text, int, float8, jsonb) IS
    'returns the k best chunks for a query among the rows the caller may see; mode: vector (score: cosine similarity), '
    'keyword (full-text search) or hybrid (words and vectors together, score from 0 to 1); a higher score is better; '
    'filter: conditions on the table''s columns, such as {"tenant": 5, "price": {"gte": 10, "lt": 20}}';

CREATE FUNCTION @extschema@.embed_search_rows_sql(
    source regclass, query text, k int, pipeline text, mode text = 'vector', filter jsonb = NULL, max_per_key int = NULL)
RETURNS text[]
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
SET hnsw.iterative_scan = 'strict_order'
SET gin_fuzzy_search_limit = 0
SET jit = off
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET lc_monetary = 'C'
AS $python$
@boot@
from evergreen.search import rows
return rows.search_rows_sql(source, query, k, pipeline, mode, filter, max_per_key)
$python$;
COMMENT ON FUNCTION @extschema@.embed_search_rows_sql(regclass, text, int, text, text, jsonb, int) IS
    'internal: the query that embed_search_rows runs, and for its $1 the chunks that were found';

-- PL/Python accepts no polymorphic argument, and PL/pgSQL no input and output of the same name: hence two functions.
CREATE FUNCTION @extschema@.embed_search_rows_typed(
    wanted anyelement, query text, k int, pipeline text, mode text, filter jsonb, max_per_key int)
RETURNS TABLE (source_row anyelement, chunk text, score float8)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET lc_monetary = 'C'
AS $plpgsql$
DECLARE
    source pg_catalog.regclass = (SELECT t.typrelid FROM pg_catalog.pg_type t
                                  WHERE t.oid = pg_catalog.pg_typeof(wanted)::pg_catalog.oid);
    parts text[] = @extschema@.embed_search_rows_sql(source, query, k, pipeline, mode, filter, max_per_key);
BEGIN
    RETURN QUERY EXECUTE parts[1] USING parts[2];
END
$plpgsql$;
COMMENT ON FUNCTION @extschema@.embed_search_rows_typed(anyelement, text, int, text, text, jsonb, int) IS
    'internal: body of embed_search_rows';

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

CREATE FUNCTION @extschema@.embed_search_rows(
    "row" anyelement, query text, k int = 10, pipeline text = NULL, mode text = 'vector', filter jsonb = NULL,
    max_per_key int = NULL)
RETURNS TABLE ("row" anyelement, chunk text, score float8)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT t.source_row, t.chunk, t.score FROM @extschema@.embed_search_rows_typed($1, $2, $3, $4, $5, $6, $7) t
$sql$;
COMMENT ON FUNCTION @extschema@.embed_search_rows(anyelement, text, int, text, text, jsonb, int) IS
    'returns the k best source rows for a query, whole and typed: embed_search_rows(NULL::docs, ''question''); mode and filter '
    'as in embed_search; each row once, with its best chunk, or up to max_per_key times';

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
