CREATE VIEW embed.usage_figures AS
SELECT true AS for_admin, u.pipeline, u.model, u.at, u.saved_by_fingerprint, u.questions,
       u.calls, u.texts, u.tokens, u.cost, u.saved_by_cache, u.saved_by_dedupe, u.batch_texts
FROM embed.usage u
UNION ALL
SELECT false, u.pipeline, u.model, u.at, u.saved_by_fingerprint, u.questions,
       u.alone_calls, u.alone_texts, u.alone_tokens, u.alone_cost, u.alone_saved_by_cache, u.alone_saved_by_dedupe, u.alone_batch_texts
FROM embed.usage u;
COMMENT ON VIEW embed.usage_figures IS
    'internal: usage twice: as embed_admin sees it, and as it would have been without other owners'' pipelines';

CREATE VIEW embed.usage_seen AS
SELECT u.pipeline, u.model, u.at, u.saved_by_fingerprint, u.questions, u.calls, u.texts, u.tokens, u.cost, u.saved_by_cache,
       u.saved_by_dedupe, u.batch_texts
FROM embed.usage_figures u
WHERE u.for_admin = pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE');
COMMENT ON VIEW embed.usage_seen IS 'internal: usage as the querying role may see it';

CREATE FUNCTION embed.usage_totals(
    pipeline int, is_admin boolean,
    OUT calls bigint, OUT texts bigint, OUT tokens bigint, OUT cost float8, OUT texts_saved bigint)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT coalesce(sum(u.calls), 0)::bigint, coalesce(sum(u.texts), 0)::bigint, coalesce(sum(u.tokens), 0)::bigint, sum(u.cost),
           coalesce(sum(u.saved_by_fingerprint + u.saved_by_cache + u.saved_by_dedupe), 0)::bigint
    FROM embed.usage_figures u WHERE u.pipeline = $1 AND u.for_admin = $2
$sql$;
COMMENT ON FUNCTION embed.usage_totals(int, boolean) IS 'internal: usage of a pipeline, as embed_admin or another role may see it';
