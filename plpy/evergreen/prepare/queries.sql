-- stored_documents(int4, jsonb[]): what is stored for these keys
SELECT u.key::pg_catalog.text AS key, d.src_hash, d.chunks
FROM pg_catalog.unnest($2) u (key)
CROSS JOIN LATERAL (SELECT d.src_hash, d.chunks FROM embed.document d
                    WHERE d.generation = $1 AND d.key = u.key OFFSET 0) d
