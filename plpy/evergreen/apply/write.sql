-- lock_jobs(int4, int8, jsonb[]): of these keys, those that are still ours; one that intake holds just now is not
-- Here and below keys are looked up one by one (LATERAL … OFFSET 0) and rows are written by ctid: the statistics of queue
-- tables are those of another moment, and with them the planner was seen to read the table once a key.
-- Keys as one jsonb document rather than as jsonb[]: 0.27 for 0.51 µs a key and statement, of some 4. Not worth a second form.
SELECT u.key::pg_catalog.text AS key
FROM pg_catalog.unnest($3) u (key)
CROSS JOIN LATERAL (SELECT FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                    FOR UPDATE SKIP LOCKED) j

-- held_documents(int4, jsonb[]): of these keys, those whose document is locked by another session; the others are ours now
SELECT u.key::pg_catalog.text AS key
FROM pg_catalog.unnest($2) u (key)
CROSS JOIN LATERAL (SELECT FROM embed.document d WHERE d.generation = $1 AND d.key = u.key OFFSET 0) d
LEFT JOIN LATERAL (SELECT true AS ours FROM embed.document d WHERE d.generation = $1 AND d.key = u.key
                   FOR UPDATE SKIP LOCKED) mine ON true
WHERE mine.ours IS NULL

-- hold_round(int4): the round of the cursor over the stored documents, which does not start another before we commit
-- KEY SHARE: an open drain keeps this lock, and cursors may move meanwhile; only intake, which starts another round, waits
-- (see fold_scopes): a round that passed before the drain's documents could be seen would leave them for ever where the
-- source was truncated. Nothing is returned while somebody starts another round.
SELECT s.round FROM embed.scan s WHERE s.generation = $1 AND s.scope = 'document' FOR KEY SHARE SKIP LOCKED

-- stored_chunks(int8[]): what is there of these documents
SELECT g.document, g.id, g.chunk_no, g.chunk_hash
FROM pg_catalog.unnest($1) u (document)
CROSS JOIN LATERAL (SELECT g.document, g.id, g.chunk_no, g.chunk_hash FROM {table} g WHERE g.document = u.document OFFSET 0) g

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
DELETE FROM embed.document WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM pg_catalog.unnest($2) u (key)
    CROSS JOIN LATERAL (SELECT d.ctid FROM embed.document d WHERE d.generation = $1 AND d.key = u.key OFFSET 0) d))
RETURNING id

-- empty_documents(int4, jsonb[]): rows that are given up. One that an embed_verify(repair) holds is queued again by that
UPDATE embed.document SET src_hash = '', chunks = 0 WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM pg_catalog.unnest($2) u (key)
    CROSS JOIN LATERAL (SELECT d.ctid FROM embed.document d WHERE d.generation = $1 AND d.key = u.key
                        FOR UPDATE SKIP LOCKED) d))
RETURNING id

-- drop_chunks(int8[], int8[]): texts no longer live
DELETE FROM {table} g WHERE g.ctid = ANY (ARRAY(
    SELECT c.ctid FROM unnest($1, $2) u (document, id)
    CROSS JOIN LATERAL (SELECT c.ctid FROM {table} c WHERE c.document = u.document AND c.id = u.id OFFSET 0) c))
RETURNING g.chunk_hash AS hash, {schema}.vector_send(g.embedding) AS embedding, g.key::pg_catalog.text AS key

-- drop_all_chunks(int8[]): of rows that are gone
DELETE FROM {table} g WHERE g.ctid = ANY (ARRAY(
    SELECT c.ctid FROM pg_catalog.unnest($1) u (document)
    CROSS JOIN LATERAL (SELECT c.ctid FROM {table} c WHERE c.document = u.document OFFSET 0) c))
RETURNING g.chunk_hash AS hash, {schema}.vector_send(g.embedding) AS embedding, g.key::pg_catalog.text AS key

-- keep_chunks(int8[], int8[], int4[], bytea[], bytea[], text): renumbered, or proven against a new fingerprint
UPDATE {table} g SET chunk_no = w.chunk_no, fingerprint = w.fingerprint, src_hash = w.src_hash, model = $6
FROM (SELECT c.ctid, u.* FROM unnest($1, $2, $3, $4, $5) u (document, id, chunk_no, fingerprint, src_hash)
      CROSS JOIN LATERAL (SELECT c.ctid FROM {table} c WHERE c.document = u.document AND c.id = u.id OFFSET 0) c OFFSET 0) w
WHERE g.ctid = w.ctid

-- finish(int4, int8, jsonb[], int8[]): a job is done if nothing changed since it was claimed
DELETE FROM embed.job WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM unnest($3, $4) u (key, changes)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                          AND j.changes = u.changes OFFSET 0) j))
RETURNING key::pg_catalog.text AS key

-- requeue(int4, int8, jsonb[], timestamptz): it changed meanwhile: once more, at once. $4: what was written is as of then, so
-- what is left to be done is newer; NULL when nothing was written
UPDATE embed.job SET token = NULL, ready_at = pg_catalog.clock_timestamp(), changed_at = greatest(changed_at, $4),
    unserved_since = CASE WHEN unserved_since IS NOT NULL THEN greatest(unserved_since, $4) END
WHERE ctid = ANY (ARRAY(
    SELECT j.ctid FROM pg_catalog.unnest($3) u (key)
    CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2 OFFSET 0) j))

-- forgive(int4, jsonb[]): these keys are fine now; a dead letter that an embed_retry() is taking away just now goes with it
DELETE FROM embed.failure WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM pg_catalog.unnest($2) u (key)
    CROSS JOIN LATERAL (SELECT f.ctid FROM embed.failure f WHERE f.generation = $1 AND f.key = u.key FOR UPDATE SKIP LOCKED) f
    WHERE EXISTS (SELECT FROM embed.failure f WHERE f.generation = $1)))

-- wait_longer(int4, int8, jsonb[], text[], float8[], int4[], text[], int4[]): failed jobs wait; the last are the attempts they have
-- now, the scope of the message, and the most texts that the next request with them may hold
UPDATE embed.job j
SET token = NULL, ready_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => w.seconds),
    last_error = CASE WHEN w.scope = 'rest' AND j.error_scope = 'service' THEN j.last_error ELSE w.message END,
    error_scope = CASE WHEN w.scope = 'rest' AND j.error_scope = 'service' THEN j.error_scope ELSE w.scope END, attempts = w.attempts,
    max_batch = coalesce(w.max_batch, j.max_batch)
FROM (SELECT j.ctid, u.* FROM unnest($3, $4, $5, $6, $7, $8) u (key, message, seconds, attempts, scope, max_batch)
      CROSS JOIN LATERAL (SELECT j.ctid FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $2
                          OFFSET 0) j OFFSET 0) w
WHERE j.ctid = w.ctid

-- bury(int4, jsonb[], text[], text[], int4[], timestamptz[]): dead letters
INSERT INTO embed.failure (generation, key, class, message, attempts, first_at, last_at, unserved_since)
SELECT $1, u.key, u.class, u.message, u.attempts, pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp(), u.unserved_since
FROM unnest($2, $3, $4, $5, $6) u (key, class, message, attempts, unserved_since)
ON CONFLICT (generation, key) DO UPDATE
SET class = EXCLUDED.class, message = EXCLUDED.message, attempts = EXCLUDED.attempts, last_at = EXCLUDED.last_at,
    unserved_since = least(embed.failure.unserved_since, EXCLUDED.unserved_since)

-- drop_kept(int4, bytea[]): vectors that are live now
DELETE FROM embed.cache WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM pg_catalog.unnest($2) u (hash)
    CROSS JOIN LATERAL (SELECT c.ctid FROM embed.cache c WHERE c.model = $1 AND c.hash = u.hash FOR UPDATE SKIP LOCKED) c
    WHERE EXISTS (SELECT FROM {table} g WHERE g.chunk_hash = u.hash)))
