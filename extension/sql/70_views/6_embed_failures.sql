CREATE VIEW @extschema@.embed_failures WITH (security_barrier) AS
SELECT p.name AS pipeline,
       f.generation,
       f.key,
       f.class,
       f.message,
       f.attempts,
       f.first_at,
       f.last_at
FROM embed.failure f
JOIN embed.generation g ON g.id = f.generation
JOIN embed.pipeline p ON p.id = g.pipeline
WHERE embed.may_own(p.source);
COMMENT ON VIEW @extschema@.embed_failures IS
    'dead letters of the pipelines that you administer: rows given up until they change, are touched, or embed_retry() queues them; '
    'rows that wait to be tried again by themselves are no dead letters: embed_status.last_error and embed_explain() tell of them';
COMMENT ON COLUMN @extschema@.embed_failures.class IS
    'permanent: the model refuses this text; retryable: it failed max_attempts times; configuration: nothing of this model can succeed';
COMMENT ON COLUMN @extschema@.embed_failures.message IS 'what the model said; it may quote the text';
COMMENT ON COLUMN @extschema@.embed_failures.attempts IS 'tries that this row lost; failures that no row is to blame for do not count';
GRANT SELECT ON @extschema@.embed_failures TO PUBLIC;
