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
       sum(u.saved_by_dedupe)::bigint AS saved_by_dedupe
FROM embed.usage u
JOIN embed.pipeline p ON p.id = u.pipeline
LEFT JOIN embed.model m ON m.id = u.model
WHERE embed.may_own(p.source)
GROUP BY p.name, m.name, pg_catalog.date_trunc('hour', u.at);
COMMENT ON VIEW @extschema@.embed_usage IS
    'what keeping a pipeline fresh cost, and what was saved, hour by hour; questions (embed, embed_query, embed_search) are not counted';
COMMENT ON COLUMN @extschema@.embed_usage.calls IS 'requests that were answered, refused or failed';
COMMENT ON COLUMN @extschema@.embed_usage.texts IS 'texts that a model answered for';
COMMENT ON COLUMN @extschema@.embed_usage.tokens IS 'as billed where the provider says, else estimated';
COMMENT ON COLUMN @extschema@.embed_usage.cost IS 'tokens times the model''s option price (of a million tokens); NULL where there is none';
COMMENT ON COLUMN @extschema@.embed_usage.saved_by_fingerprint IS 'texts of rows that were found unchanged';
COMMENT ON COLUMN @extschema@.embed_usage.saved_by_cache IS 'texts that were embedded before and are live elsewhere or kept';
COMMENT ON COLUMN @extschema@.embed_usage.saved_by_dedupe IS 'texts that were needed twice at once and sent once';
GRANT SELECT ON @extschema@.embed_usage TO PUBLIC;
