-- iterative_scan: an index gives more than it would at first where row security, or a stale row, leaves too few.
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
    'the k best chunks for a question, as the caller may see them; mode vector (score: cosine similarity), keyword (full text search) or hybrid (both, by reciprocal rank fusion); a higher score is better';
