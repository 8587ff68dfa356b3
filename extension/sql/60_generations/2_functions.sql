CREATE FUNCTION @extschema@.embed_build(
    pipeline text, model text = NULL, chunker jsonb = NULL, columns text[] = NULL, template text = NULL,
    options jsonb = '{}') RETURNS int
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import build
return build.embed_build(pipeline, model, chunker, columns, template, options)
$python$;
COMMENT ON FUNCTION @extschema@.embed_build(text, text, jsonb, text[], text, jsonb) IS
    'starts building a generation with a different model, chunker or text alongside the active one; both stay fresh, and '
    'searches keep using the active one';

CREATE FUNCTION @extschema@.embed_compare(pipeline text, queries text[] = NULL, k int = 10)
RETURNS TABLE (query text, overlap float8, active_keys jsonb, building_keys jsonb)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import compare
return compare.embed_compare(pipeline, queries, k)
$python$;
COMMENT ON FUNCTION @extschema@.embed_compare(text, text[], int) IS
    'compares the active generation with the one being built: the k nearest rows in each, and the share found by both; '
    'without queries, texts of sample rows are used';

CREATE FUNCTION @extschema@.embed_promote(pipeline text, min_coverage float8 = 1.0, min_overlap float8 = NULL) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import promote
promote.embed_promote(pipeline, min_coverage, min_overlap)
$python$;
COMMENT ON FUNCTION @extschema@.embed_promote(text, float8, float8) IS
    'makes the generation being built the active one, for all searches at once; refused below min_coverage (the share of the '
    'active generation''s rows that it has) or min_overlap (mean of embed_compare); a NOTICE says if its index does not exist '
    'yet';

CREATE FUNCTION @extschema@.embed_rollback(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import promote
promote.embed_rollback(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_rollback(text) IS
    'makes the previous generation active again, at once; it is kept fresh for previous_kept, then retired';

CREATE FUNCTION @extschema@.embed_retire(pipeline text, generation int = NULL) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import retire
retire.embed_retire(pipeline, generation)
$python$;
COMMENT ON FUNCTION @extschema@.embed_retire(text, int) IS
    'drops the previous generations and their vectors, or the given one (even if it is being built); never the active one';

CREATE FUNCTION @extschema@.embed_bridge(
    pipeline text, sample int = 5000, min_recall float8 = 0.8,
    OUT pairs bigint, OUT recall float8, OUT overlap float8, OUT active boolean)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import bridge
return bridge.embed_bridge(pipeline, sample, min_recall)
$python$;
COMMENT ON FUNCTION @extschema@.embed_bridge(text, int, float8) IS
    'while a generation is being built: embeds questions to the active one by the new model and maps their vectors; refused below '
    'min_recall (recall: known-item recall@10; overlap: share kept of the neighbours that the two models agree on); ends with '
    'embed_promote, embed_retire or embed_bridge_drop';

CREATE FUNCTION @extschema@.embed_bridge_drop(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import bridge
bridge.embed_bridge_drop(pipeline)
$python$;
COMMENT ON FUNCTION @extschema@.embed_bridge_drop(text) IS
    'ends a bridge: questions are embedded by the active generation''s own model again';

CREATE FUNCTION embed.index_statement(generation int) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import indexing
return indexing.index_statement(generation)
$python$;
COMMENT ON FUNCTION embed.index_statement(int) IS 'internal: the statement that builds the index on a generation''s vectors';
