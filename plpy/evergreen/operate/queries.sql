-- texts_in_generation(bytea[]): those of these texts that the generation has a vector for
SELECT u.hash FROM pg_catalog.unnest($1) u (hash) WHERE EXISTS (SELECT FROM {table} g WHERE g.chunk_hash = u.hash)

-- texts_in_cache(int4, bytea[]): those of these texts with a cached vector; erased texts have none
SELECT u.hash FROM pg_catalog.unnest($2) u (hash)
WHERE EXISTS (SELECT FROM embed.cache c WHERE c.model = $1 AND c.hash = u.hash)

-- log_keys(int4, jsonb[], bool): queues keys to be checked; the first wakes a sleeping worker, as the capture function does
INSERT INTO embed.change_log (pipeline, key, wake)
SELECT $1, k.key, CASE WHEN k.ord = 1 AND $3 AND NOT pg_catalog.pg_try_advisory_xact_lock_shared({lock_sleeper}, 0) THEN true END
FROM pg_catalog.unnest($2) WITH ORDINALITY k (key, ord)

-- log_scope(int4): queues a check of every row
INSERT INTO embed.change_log (pipeline, scope) VALUES ($1, 'source')

-- is_backfill_running(int4): whether a cursor over the source has moved past its start
SELECT EXISTS (SELECT FROM embed.generation g JOIN embed.backfill_cursor s ON s.generation = g.id
               WHERE g.pipeline = $1 AND s.scope = 'source' AND s.running AND s.position IS NOT NULL)

-- queued_keys(int4, int4, int8[], int4): keys of jobs that no live worker holds, and of the log
SELECT k.key::pg_catalog.text AS key
FROM (SELECT j.key FROM embed.job j WHERE j.generation = $1 AND (j.token IS NULL OR j.token <> ALL ($3))
      UNION
      SELECT c.key FROM embed.change_log c
      WHERE c.pipeline = $2 AND c.key IS NOT NULL AND pg_catalog.pg_column_size(c.key) <= {max_key_bytes}) k
LIMIT $4

-- count_queued_keys(int4, int4, int8[]): number of such keys
SELECT count(*)
FROM (SELECT j.key FROM embed.job j WHERE j.generation = $1 AND (j.token IS NULL OR j.token <> ALL ($3))
      UNION
      SELECT c.key FROM embed.change_log c
      WHERE c.pipeline = $2 AND c.key IS NOT NULL AND pg_catalog.pg_column_size(c.key) <= {max_key_bytes}) k

-- claimed_keys(int4, int8[]): keys held by live workers
SELECT j.key::pg_catalog.text AS key FROM embed.job j WHERE j.generation = $1 AND j.token = ANY ($2)

-- backfill_cursor(int4, int4): position of the backfill, if it runs; the start if the log says so
SELECT CASE WHEN NOT r.restarts THEN s.position::pg_catalog.text END AS position, s.round = 0 AND NOT r.restarts AS is_first
FROM embed.backfill_cursor s
CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM embed.change_log c WHERE c.pipeline = $2 AND c.scope = 'source') AS restarts) r
WHERE s.generation = $1 AND s.scope = 'source' AND (s.running OR r.restarts)

-- estimated_documents(int4): number of rows already embedded
SELECT count(*) FROM embed.document d WHERE d.generation = $1

-- estimated_rows(oid): number of rows of the source
SELECT embed.estimate_rows($1::pg_catalog.regclass)

-- texts_in_flight(int4, bytea[], int4[]): texts that a live worker is sending for one of these pipelines (NULL: any).
-- An open drain shows nothing here.
SELECT i.hash FROM embed.in_flight i JOIN embed.lease l ON l.token = i.token
WHERE i.model = $1 AND i.hash = ANY ($2) AND i.expires_at > pg_catalog.clock_timestamp()
  AND NOT embed.is_abandoned(l.token, l.expires_at)
  AND ($3 IS NULL OR EXISTS (SELECT FROM embed.generation g WHERE g.id = l.generation AND g.pipeline = ANY ($3)))

-- explained_job(int4, jsonb): the queued work for a key
SELECT j.lane, j.attempts, j.last_error, j.changed_at::pg_catalog.text AS changed_at,
       j.ready_at::pg_catalog.text AS ready_at, j.ready_at > pg_catalog.clock_timestamp() AS waits, l.token IS NOT NULL AS claimed
FROM embed.job j LEFT JOIN embed.lease l ON l.token = j.token AND l.expires_at > pg_catalog.clock_timestamp()
WHERE j.generation = $1 AND j.key = $2

-- explained_changes(int4, jsonb): log rows not coalesced yet
SELECT count(*) AS changes, min(c.changed_at)::pg_catalog.text AS since FROM embed.change_log c WHERE c.pipeline = $1 AND c.key = $2

-- explained_document(int4, jsonb): what is stored for a key
SELECT d.id, d.fingerprint, d.src_hash, d.chunks, d.changed_at::pg_catalog.text AS changed_at,
       d.embedded_at::pg_catalog.text AS embedded_at
FROM embed.document d WHERE d.generation = $1 AND d.key = $2

-- explained_failure(int4, jsonb): the dead letter
SELECT f.class, f.message, f.attempts, f.first_at::pg_catalog.text AS first_at, f.last_at::pg_catalog.text AS last_at
FROM embed.failure f WHERE f.generation = $1 AND f.key = $2

-- insert_job(int4, jsonb): takes the place of the row's job, if there is none; waits for a session that is inserting one
INSERT INTO embed.job (generation, key) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING generation

-- lock_job(int4, jsonb): keeps other sessions from changing this row's job
SELECT j.token FROM embed.job j WHERE j.generation = $1 AND j.key = $2 FOR UPDATE

-- delete_job(int4, jsonb): nothing needs to be done for this row
DELETE FROM embed.job WHERE generation = $1 AND key = $2

-- reset_job(int4, jsonb): takes the row from its current claim and queues it as new
UPDATE embed.job
SET token = NULL, changes = changes + 1, attempts = 0, last_error = NULL, ready_at = pg_catalog.clock_timestamp()
WHERE generation = $1 AND key = $2

-- delete_chunks(int4, jsonb): deletes the row's texts and vectors
DELETE FROM {table} g WHERE g.ctid = ANY (ARRAY(
    SELECT c.ctid FROM embed.document d
    CROSS JOIN LATERAL (SELECT c.ctid FROM {table} c WHERE c.document = d.id OFFSET 0) c
    WHERE d.generation = $1 AND d.key = $2))
RETURNING g.chunk_hash AS hash

-- delete_document(int4, jsonb): deletes what is stored for the row
DELETE FROM embed.document WHERE generation = $1 AND key = $2

-- delete_failure(int4, jsonb): deletes the dead letter, whose message may quote the text
DELETE FROM embed.failure WHERE generation = $1 AND key = $2

-- changes_of_key(int4, jsonb): changes that no worker has processed
SELECT c.ctid::pg_catalog.text AS ctid FROM embed.change_log c WHERE c.pipeline = $1 AND c.key = $2

-- delete_changes(jsonb, text[]): log rows of an absent row need no check
DELETE FROM embed.change_log WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM embed.change_log c WHERE c.ctid = ANY ($2::pg_catalog.tid[]) AND c.key = $1 FOR UPDATE SKIP LOCKED))

-- texts_of_claim(int4, int8): texts of the claim that held the row; which of them are the row's is no longer known
SELECT i.hash FROM embed.in_flight i WHERE i.model = $1 AND i.token = $2

-- clear_in_flight(int4, bytea[], int8): the row's texts are no longer in flight
DELETE FROM embed.in_flight WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM embed.in_flight i
    WHERE i.model = $1 AND i.hash = ANY ($2) AND (i.token = $3 OR i.expires_at <= pg_catalog.clock_timestamp())
    FOR UPDATE SKIP LOCKED))

-- insert_cache_placeholders(int4, bytea[]): placeholders, removed again before another session can see them
INSERT INTO embed.cache (model, hash, embedding)
SELECT $1, u.hash, '[0]'::{vector} FROM pg_catalog.unnest($2) u (hash) ORDER BY u.hash
ON CONFLICT DO NOTHING

-- delete_cached(int4, bytea[]): deletes cached vectors
DELETE FROM embed.cache WHERE model = $1 AND hash = ANY ($2)

-- delete_cached_of_row(int4, jsonb): vectors of texts that the row had earlier
DELETE FROM embed.cache WHERE pipeline = $1 AND key = $2

-- insert_erased_texts(int4, bytea[]): texts that must not be cached if their vectors arrive late
INSERT INTO embed.erased_text (model, hash)
SELECT $1, u.hash FROM pg_catalog.unnest($2) u (hash) ORDER BY u.hash
ON CONFLICT (model, hash) DO UPDATE SET erased_at = pg_catalog.clock_timestamp()

-- other_pipelines(oid, int4): other pipelines on the same table
SELECT p.name FROM embed.pipeline p WHERE p.source = $1::pg_catalog.regclass AND p.id <> $2 ORDER BY p.name

-- retry_failed_keys(int4, int4[], jsonb): queues failed keys of these generations, all or one, in the change log.
-- A dead letter that a drain has locked is being rewritten or cleared: the drain decides about it, and its key is checked once
-- more afterwards. Lag keeps counting from the change that failed. A worker that fails to finish a logged key leaves it queued,
-- so the DELETE loses nothing.
WITH dead AS MATERIALIZED (
    SELECT f.key, f.unserved_since FROM embed.failure f WHERE f.generation = ANY ($2) AND ($3 IS NULL OR f.key = $3)
), held AS MATERIALIZED (
    SELECT f.ctid FROM embed.failure f WHERE f.generation = ANY ($2) AND ($3 IS NULL OR f.key = $3) FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM embed.failure WHERE ctid = ANY (ARRAY(SELECT h.ctid FROM held h))
), waiting AS MATERIALIZED (
    SELECT j.key FROM embed.job j
    WHERE j.generation = ANY ($2) AND ($3 IS NULL OR j.key = $3)
      AND j.token IS NULL AND (j.last_error IS NOT NULL OR j.ready_at > pg_catalog.clock_timestamp())
)
INSERT INTO embed.change_log (pipeline, key, changed_at, recheck)
SELECT $1, k.key, coalesce(min(k.since), pg_catalog.clock_timestamp()), min(k.since) IS NULL
FROM (SELECT d.key, d.unserved_since AS since FROM dead d UNION ALL SELECT w.key, NULL FROM waiting w) k
GROUP BY k.key

-- spent_budgets(int4): daily budgets that a pipeline has spent
SELECT embed.spent_budgets(p.id, p.options) AS names FROM embed.pipeline p WHERE p.id = $1

-- verified_documents(int4, jsonb[]): what is stored for these keys
SELECT d.id, u.key::pg_catalog.text AS key, d.fingerprint, d.src_hash
FROM pg_catalog.unnest($2) u (key)
CROSS JOIN LATERAL (SELECT d.id, d.fingerprint, d.src_hash FROM embed.document d
                    WHERE d.generation = $1 AND d.key = u.key OFFSET 0) d

-- verified_chunks(int8[]): stored chunks in order
SELECT g.document, g.id, g.chunk_no, g.chunk_hash, g.chunk, g.model, g.fingerprint, g.src_hash,
       {key} OPERATOR(pg_catalog.=) g.key AS key_is_right
FROM {table} g WHERE g.document = ANY ($1) ORDER BY g.document, g.chunk_no

-- delete_damaged_chunks(int8[], int8[]): chunks that do not match the values stored with them; a drain recreates them.
-- Here and below, a row that another session is writing is left to that session: nothing waits for an open drain.
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM unnest($1, $2) u (document, id)
    CROSS JOIN LATERAL (SELECT c.ctid FROM {table} c WHERE c.document = u.document AND c.id = u.id
                        FOR UPDATE SKIP LOCKED) c))

-- orphaned_chunks(int4): chunks without a document
SELECT DISTINCT g.key::pg_catalog.text AS key FROM {table} g
WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.id = g.document)

-- delete_orphaned_chunks(int4): deletes them
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT g.ctid FROM {table} g
    WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.id = g.document)
    FOR UPDATE SKIP LOCKED))

-- mark_documents_stale(int4, jsonb[]): marks what is stored for these keys as untrusted
UPDATE embed.document SET src_hash = '' WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM pg_catalog.unnest($2) u (key)
    CROSS JOIN LATERAL (SELECT d.ctid FROM embed.document d WHERE d.generation = $1 AND d.key = u.key
                        FOR UPDATE SKIP LOCKED) d))

-- rough_rows(oid): approximate number of rows, and whether they may be counted
SELECT r.rows, r.is_small FROM embed.rough_rows($1::pg_catalog.regclass) r

-- count_rows(): runs as the caller, like all that follow
SELECT count(*) FROM {source}

-- first_rows(): the first rows of the table
SELECT {key}::pg_catalog.text AS key, {content} AS content, {frame} AS frame FROM {source} s ORDER BY {order} LIMIT 3

-- all_rows(int4): rows from the start
SELECT {content} AS content, {frame} AS frame FROM {source} s LIMIT $1

-- sample_rows(int4): rows of randomly chosen pages
SELECT {content} AS content, {frame} AS frame FROM {source} s TABLESAMPLE pg_catalog.system ({percent}) LIMIT $1
