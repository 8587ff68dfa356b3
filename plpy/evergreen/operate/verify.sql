-- documents(int4, jsonb[]): what is recorded of these keys
SELECT d.id, u.key::pg_catalog.text AS key, d.fingerprint, d.src_hash
FROM pg_catalog.unnest($2) u (key)
CROSS JOIN LATERAL (SELECT d.id, d.fingerprint, d.src_hash FROM embed.document d
                    WHERE d.generation = $1 AND d.key = u.key OFFSET 0) d

-- chunks(int8[]): stored chunks in order
SELECT g.document, g.id, g.chunk_no, g.chunk_hash, g.chunk, g.model, g.fingerprint, g.src_hash,
       {key} OPERATOR(pg_catalog.=) g.key AS key_is_right
FROM {table} g WHERE g.document = ANY ($1) ORDER BY g.document, g.chunk_no

-- drop_damaged(int8[], int8[]): chunks that are not what stands beside them; a drain makes them anew
-- Here and below a row that somebody is writing just now is left to him: nobody waits for an open drain.
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM unnest($1, $2) u (document, id)
    CROSS JOIN LATERAL (SELECT c.ctid FROM {table} c WHERE c.document = u.document AND c.id = u.id
                        FOR UPDATE SKIP LOCKED) c))

-- strays(int4): chunks whose document is gone
SELECT DISTINCT g.key::pg_catalog.text AS key FROM {table} g
WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.id = g.document)

-- drop_strays(int4): and away with them
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT g.ctid FROM {table} g
    WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.id = g.document)
    FOR UPDATE SKIP LOCKED))

-- spoil(int4, jsonb[]): what is recorded of these keys is not believed any more
UPDATE embed.document SET src_hash = '' WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM pg_catalog.unnest($2) u (key)
    CROSS JOIN LATERAL (SELECT d.ctid FROM embed.document d WHERE d.generation = $1 AND d.key = u.key
                        FOR UPDATE SKIP LOCKED) d))
