CREATE VIEW @extschema@.embed_usage WITH (security_barrier) AS
SELECT p.name AS pipeline,
       m.name AS model,
       pg_catalog.date_trunc('hour', u.at) AS hour,
       sum(u.calls)::bigint AS calls,
       sum(u.texts)::bigint AS texts,
       sum(u.tokens)::bigint AS tokens,
       sum(u.cost) AS cost,
       sum(u.saved_by_fingerprint)::bigint AS saved_by_fingerprint,
       sum(u.saved_by_cache)::bigint AS saved_by_cache,
       sum(u.saved_by_dedupe)::bigint AS saved_by_dedupe,
       sum(u.questions)::bigint AS questions
FROM embed.usage_seen u
LEFT JOIN embed.pipeline p ON p.id = u.pipeline
LEFT JOIN embed.model m ON m.id = u.model
WHERE CASE WHEN u.pipeline IS NULL THEN pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE')
           ELSE p.id IS NOT NULL AND embed.may_own(p.source) END
GROUP BY p.name, m.name, pg_catalog.date_trunc('hour', u.at);
COMMENT ON VIEW @extschema@.embed_usage IS
    'what keeping a pipeline fresh and searching it cost, and what was saved, hour by hour. Questions to a model that costs money count, but for those on a standby, in a READ ONLY transaction or in one that is rolled back';
COMMENT ON COLUMN @extschema@.embed_usage.pipeline IS 'NULL: calls of embed(), which no pipeline pays for; shown to embed_admin';
COMMENT ON COLUMN @extschema@.embed_usage.calls IS
    'requests that were answered, refused or failed. Only embed_admin is told of texts that vectors of other owners'' pipelines '
    'saved: for all others calls, texts, tokens and cost are as if those had been sent';
COMMENT ON COLUMN @extschema@.embed_usage.texts IS 'texts that a model answered for';
COMMENT ON COLUMN @extschema@.embed_usage.tokens IS 'as billed where the provider says, else estimated; an estimate for all but embed_admin';
COMMENT ON COLUMN @extschema@.embed_usage.cost IS 'tokens times the model''s option price (of a million tokens); NULL where there is none';
COMMENT ON COLUMN @extschema@.embed_usage.saved_by_fingerprint IS 'texts of rows that were found unchanged';
COMMENT ON COLUMN @extschema@.embed_usage.saved_by_cache IS 'texts that were embedded before and are live elsewhere or kept';
COMMENT ON COLUMN @extschema@.embed_usage.saved_by_dedupe IS 'texts that were needed twice at once and sent once';
COMMENT ON COLUMN @extschema@.embed_usage.questions IS 'of the texts, those that were questions (embed, embed_query, embed_search, embed_search_rows, embed_compare)';
GRANT SELECT ON @extschema@.embed_usage TO PUBLIC;
