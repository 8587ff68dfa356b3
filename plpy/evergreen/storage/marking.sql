-- generations_of_revision(int4, int4): generations whose vectors are of a revision, unless their pipeline takes any
SELECT g.id, g.pipeline FROM embed.generation g JOIN embed.pipeline p ON p.id = g.pipeline
WHERE g.model = $1 AND g.model_revision = $2 AND p.options ->> 'on_model_change' IS DISTINCT FROM 'warn' ORDER BY g.id

-- lock_documents(int4, timestamptz, int4): documents written since $2 that are not marked yet, without those another session writes
SELECT d.id, d.key::pg_catalog.text AS key FROM embed.document d
WHERE d.generation = $1 AND d.embedded_at >= $2 AND d.fingerprint <> ''
ORDER BY d.key LIMIT $3 FOR UPDATE SKIP LOCKED

-- is_any_left(int4, timestamptz): whether another session keeps one of them from being marked
SELECT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.embedded_at >= $2 AND d.fingerprint <> '')

-- mark_chunks(int8[], timestamptz, text): chunks whose vector may be of another model: an empty hash is no text's, so the vector is
-- neither kept for its text nor found for another row. Searches return it as stale until it is replaced
UPDATE {table} g SET chunk_hash = '', src_hash = '', model = $3
WHERE g.ctid = ANY (ARRAY(
    SELECT c.ctid FROM pg_catalog.unnest($1) u (document)
    CROSS JOIN LATERAL (SELECT c.ctid, c.embedded_at FROM {table} c WHERE c.document = u.document OFFSET 0) c
    WHERE c.embedded_at >= $2))

-- mark_documents(int4, jsonb[]): they are prepared again
UPDATE embed.document SET fingerprint = '', src_hash = '' WHERE generation = $1 AND key = ANY ($2)

-- delete_cached_since(int4, int4, timestamptz): cached vectors that may be of another model
DELETE FROM embed.cache WHERE model = $1 AND revision = $2 AND kept_at >= $3
