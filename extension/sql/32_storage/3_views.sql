-- Usage as the querying role may see it: all of it, or what it would have been without other owners' pipelines.
CREATE VIEW embed.usage_seen AS
SELECT u.pipeline, u.model, u.at, u.saved_by_fingerprint, u.questions,
       CASE WHEN r.is_admin THEN u.calls ELSE u.alone_calls END AS calls,
       CASE WHEN r.is_admin THEN u.texts ELSE u.alone_texts END AS texts,
       CASE WHEN r.is_admin THEN u.tokens ELSE u.alone_tokens END AS tokens,
       CASE WHEN r.is_admin THEN u.cost ELSE u.alone_cost END AS cost,
       CASE WHEN r.is_admin THEN u.saved_by_cache ELSE u.alone_saved_by_cache END AS saved_by_cache,
       CASE WHEN r.is_admin THEN u.saved_by_dedupe ELSE u.alone_saved_by_dedupe END AS saved_by_dedupe
FROM embed.usage u
CROSS JOIN (SELECT pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE') AS is_admin) r;
COMMENT ON VIEW embed.usage_seen IS 'internal: usage as the querying role may see it';
