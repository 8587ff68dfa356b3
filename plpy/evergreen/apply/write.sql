-- lock_jobs(int4, int8, jsonb[]): of these keys, those that are still ours; one that intake holds just now is not
SELECT j.key::pg_catalog.text AS key FROM embed.job j
WHERE j.generation = $1 AND j.token = $2 AND j.key = ANY ($3)
FOR UPDATE SKIP LOCKED

-- stored_chunks(int8[]): what is there of these documents
SELECT g.document, g.id, g.chunk_no, g.chunk_hash FROM {table} g WHERE g.document = ANY ($1)

-- put_documents(int4, jsonb[], bytea[], bytea[], int4[], timestamptz[]): new or changed documents
INSERT INTO embed.document (generation, key, fingerprint, src_hash, chunks, changed_at, embedded_at)
SELECT $1, u.key, u.fingerprint, u.src_hash, u.chunks, u.changed_at, pg_catalog.clock_timestamp()
FROM unnest($2, $3, $4, $5, $6) u (key, fingerprint, src_hash, chunks, changed_at)
ORDER BY u.key
ON CONFLICT (generation, key) DO UPDATE
SET fingerprint = EXCLUDED.fingerprint, src_hash = EXCLUDED.src_hash, chunks = EXCLUDED.chunks,
    changed_at = EXCLUDED.changed_at, embedded_at = EXCLUDED.embedded_at
RETURNING id, key::pg_catalog.text AS key

-- drop_documents(int4, jsonb[]): rows that are gone
DELETE FROM embed.document WHERE generation = $1 AND key = ANY ($2) RETURNING id

-- drop_chunks(int8[], int8[]): texts no longer live
DELETE FROM {table} g USING unnest($1, $2) u (document, id)
WHERE g.document = u.document AND g.id = u.id
RETURNING g.chunk_hash AS hash, g.embedding::pg_catalog.text AS embedding

-- drop_all_chunks(int8[]): of rows that are gone
DELETE FROM {table} g WHERE g.document = ANY ($1)
RETURNING g.chunk_hash AS hash, g.embedding::pg_catalog.text AS embedding

-- keep_chunks(int8[], int8[], int4[], bytea[], bytea[]): renumbered, or proven against a new fingerprint
UPDATE {table} g SET chunk_no = u.chunk_no, fingerprint = u.fingerprint, src_hash = u.src_hash
FROM unnest($1, $2, $3, $4, $5) u (document, id, chunk_no, fingerprint, src_hash)
WHERE g.document = u.document AND g.id = u.id

-- add_chunks(int8[], jsonb[], int4[], text[], bytea[], {vector}[], bytea[], bytea[], text): new texts with their vectors
INSERT INTO {table} (document, {key_names}, key, chunk_no, chunk, chunk_hash, embedding, fingerprint, src_hash, model, embedded_at)
SELECT u.document, {key_values}, u.key, u.chunk_no, u.chunk, u.chunk_hash, u.embedding, u.fingerprint, u.src_hash, $9,
       pg_catalog.clock_timestamp()
FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
     u (document, key, chunk_no, chunk, chunk_hash, embedding, fingerprint, src_hash)

-- cache(int4, bytea[], {vector}[]): vectors of texts no longer live, or that came too late
INSERT INTO embed.cache (model, hash, embedding)
SELECT DISTINCT ON (u.hash) $1, u.hash, u.embedding FROM unnest($2, $3) u (hash, embedding) ORDER BY u.hash
ON CONFLICT (model, hash) DO UPDATE SET kept_at = pg_catalog.clock_timestamp()

-- finish(int4, int8, jsonb[], int8[]): a job is done if nothing changed since it was claimed
DELETE FROM embed.job j USING unnest($3, $4) u (key, changes)
WHERE j.generation = $1 AND j.token = $2 AND j.key = u.key AND j.changes = u.changes
RETURNING j.key::pg_catalog.text AS key

-- requeue(int4, int8, jsonb[]): it changed meanwhile: once more, at once
UPDATE embed.job SET token = NULL, ready_at = pg_catalog.clock_timestamp()
WHERE generation = $1 AND token = $2 AND key = ANY ($3)

-- forgive(int4, jsonb[]): these keys are fine now
DELETE FROM embed.failure WHERE generation = $1 AND key = ANY ($2)

-- wait_longer(int4, int8, jsonb[], text[], float8[], int4[]): failed jobs wait; the last is the attempts they have now
UPDATE embed.job j
SET token = NULL, ready_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => u.seconds),
    last_error = u.message, attempts = u.attempts
FROM unnest($3, $4, $5, $6) u (key, message, seconds, attempts)
WHERE j.generation = $1 AND j.token = $2 AND j.key = u.key

-- bury(int4, jsonb[], text[], text[], int4[]): dead letters
INSERT INTO embed.failure (generation, key, class, message, attempts, first_at, last_at)
SELECT $1, u.key, u.class, u.message, u.attempts, pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp()
FROM unnest($2, $3, $4, $5) u (key, class, message, attempts)
ON CONFLICT (generation, key) DO UPDATE
SET class = EXCLUDED.class, message = EXCLUDED.message, attempts = EXCLUDED.attempts, last_at = EXCLUDED.last_at
