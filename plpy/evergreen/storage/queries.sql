-- uses_utf8(): whether client and server use UTF-8, so that text is transferred as UTF-8
SELECT pg_catalog.current_setting('client_encoding') = 'UTF8' AND pg_catalog.current_setting('server_encoding') = 'UTF8'

-- copy_chunks(): new texts with their vectors, from a file in COPY's binary format.
-- µs per row in the server, including three indexes: 12 at 256 dimensions and 37 at 1,536; insert_chunks takes 31 and 172.
-- Copies straight into the table: a staging table would write and read each vector once more. Nothing is temporary, because the
-- transaction could not be prepared otherwise.
COPY {table} (document, chunk_no, chunk_hash, fingerprint, src_hash, embedded_at, model, {key_names}, key, chunk, embedding)
FROM {path} (FORMAT binary)

-- insert_chunks(int8[], jsonb[], int4[], text[], bytea[], {vector}[], bytea[], bytea[], text): the same, for keys of any type.
-- The vectors are transferred as text, which costs more than the rest of the row.
INSERT INTO {table} (document, {key_names}, key, chunk_no, chunk, chunk_hash, embedding, fingerprint, src_hash, model, embedded_at)
SELECT u.document, {key_values}, u.key, u.chunk_no, u.chunk, u.chunk_hash, u.embedding, u.fingerprint, u.src_hash, $9,
       pg_catalog.clock_timestamp()
FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
     u (document, key, chunk_no, chunk, chunk_hash, embedding, fingerprint, src_hash)

-- record_lag(int4, int2, timestamptz[]): one batch of a lane. Four buckets per doubling, from a millisecond to three days
INSERT INTO embed.lag (pipeline, lane, buckets, counts)
SELECT $1, $2, pg_catalog.array_agg(b.bucket ORDER BY b.bucket), pg_catalog.array_agg(b.count ORDER BY b.bucket)
FROM (SELECT least(greatest(pg_catalog.ceil(4 / pg_catalog.ln(2::pg_catalog.float8) * pg_catalog.ln(greatest(
                 1000 * pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - u.since), 1))), 0), 112)::int2 AS bucket,
             count(*) AS count
      FROM pg_catalog.unnest($3) u (since) GROUP BY 1) b

-- aggregate_lag(int4): merges batches of past minutes into one row per minute and lane
WITH old AS MATERIALIZED (
    SELECT l.ctid FROM embed.lag l
    WHERE NOT l.aggregated AND l.at < pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp())
    ORDER BY l.at LIMIT $1 FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM embed.lag l WHERE l.ctid = ANY (ARRAY(SELECT o.ctid FROM old o)) RETURNING l.*),
summed AS (
    SELECT g.pipeline, g.lane, pg_catalog.date_trunc('minute', g.at) AS at, u.bucket, sum(u.count)::pg_catalog.int8 AS count
    FROM gone g CROSS JOIN LATERAL unnest(g.buckets, g.counts) u (bucket, count)
    GROUP BY 1, 2, 3, 4)
INSERT INTO embed.lag (pipeline, lane, at, aggregated, buckets, counts)
SELECT s.pipeline, s.lane, s.at, true, pg_catalog.array_agg(s.bucket ORDER BY s.bucket), pg_catalog.array_agg(s.count ORDER BY s.bucket)
FROM summed s GROUP BY s.pipeline, s.lane, s.at

-- delete_old_lag(): rows that embed_status no longer shows, and those inserted while their pipeline was dropped
DELETE FROM embed.lag WHERE ctid = ANY (ARRAY(
    SELECT l.ctid FROM embed.lag l
    WHERE l.at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(hours => 1, mins => 1)
       OR NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = l.pipeline)
    FOR UPDATE SKIP LOCKED))

-- record_usage(int4, int4, int8, int8, int8, int8, int8, int8, float8, int8, int8, int8, float8, int8, int8): one batch
INSERT INTO embed.usage
    (pipeline, model, calls, texts, tokens, saved_by_fingerprint, saved_by_cache, saved_by_dedupe, cost,
     alone_calls, alone_texts, alone_tokens, alone_cost, alone_saved_by_cache, alone_saved_by_dedupe)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)

-- record_query_usage(int4, int4, int8, int8, int8, float8, int8): queries sent to a model; pipeline NULL: embed(), or a look at the
-- model, which is no question ($7)
INSERT INTO embed.usage
    (pipeline, model, calls, texts, tokens, saved_by_fingerprint, saved_by_cache, saved_by_dedupe, cost, questions,
     alone_calls, alone_texts, alone_tokens, alone_cost, alone_saved_by_cache, alone_saved_by_dedupe)
VALUES ($1, $2, $3, $4, $5, 0, 0, 0, $6, $7, $3, $4, $5, $6, 0, 0)

-- record_batch_usage(int4, int4, int8, int8, int8, float8, int8, int8, float8): results of a provider's batch
INSERT INTO embed.usage
    (pipeline, model, calls, texts, tokens, saved_by_fingerprint, saved_by_cache, saved_by_dedupe, cost, batch_texts,
     alone_calls, alone_texts, alone_tokens, alone_cost, alone_batch_texts)
VALUES ($1, $2, $3, $4, $5, 0, 0, 0, $6, $4, $3, $7, $8, $9, $7)

-- is_writable(): false on a standby and in a READ ONLY transaction
SELECT NOT pg_catalog.current_setting('transaction_read_only')::boolean AS may

-- aggregate_usage(int4): merges batches of past hours into one row per hour
WITH old AS MATERIALIZED (
    SELECT u.ctid FROM embed.usage u
    WHERE NOT u.aggregated AND u.at < pg_catalog.date_trunc('hour', pg_catalog.clock_timestamp())
    ORDER BY u.at LIMIT $1 FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM embed.usage u WHERE u.ctid = ANY (ARRAY(SELECT o.ctid FROM old o)) RETURNING u.*)
INSERT INTO embed.usage
    (pipeline, model, at, aggregated, calls, texts, tokens, saved_by_fingerprint, saved_by_cache, saved_by_dedupe, cost,
     alone_calls, alone_texts, alone_tokens, alone_cost, alone_saved_by_cache, alone_saved_by_dedupe, questions,
     batch_texts, alone_batch_texts)
SELECT g.pipeline, g.model, pg_catalog.date_trunc('hour', g.at), true, sum(g.calls), sum(g.texts), sum(g.tokens),
       sum(g.saved_by_fingerprint), sum(g.saved_by_cache), sum(g.saved_by_dedupe), sum(g.cost),
       sum(g.alone_calls), sum(g.alone_texts), sum(g.alone_tokens), sum(g.alone_cost),
       sum(g.alone_saved_by_cache), sum(g.alone_saved_by_dedupe), sum(g.questions),
       sum(g.batch_texts), sum(g.alone_batch_texts)
FROM gone g GROUP BY g.pipeline, g.model, pg_catalog.date_trunc('hour', g.at)

-- delete_usage_of_dropped(): batches that were in flight when their pipeline was dropped
DELETE FROM embed.usage u
WHERE u.pipeline IS NOT NULL AND NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = u.pipeline)

-- merge_document_counts(): merges changes into one row per generation; deletes rows of dropped generations
WITH rows AS MATERIALIZED (
    SELECT t.ctid, t.generation FROM embed.document_count t LIMIT 10000 FOR UPDATE SKIP LOCKED),
several AS (
    SELECT r.ctid FROM (SELECT r.*, count(*) OVER (PARTITION BY r.generation) AS of_it FROM rows r) r
    WHERE r.of_it > 1
       OR NOT EXISTS (SELECT FROM embed.generation g WHERE g.id = r.generation)),
gone AS (DELETE FROM embed.document_count t WHERE t.ctid = ANY (ARRAY(SELECT s.ctid FROM several s)) RETURNING t.*)
INSERT INTO embed.document_count (generation, documents)
SELECT x.generation, sum(x.documents) FROM gone x JOIN embed.generation g ON g.id = x.generation GROUP BY x.generation

-- stored_chunks(int8[]): stored chunks of these documents
SELECT g.document, g.id, g.chunk_no, g.chunk_hash
FROM pg_catalog.unnest($1) u (document)
CROSS JOIN LATERAL (SELECT g.document, g.id, g.chunk_no, g.chunk_hash FROM {table} g WHERE g.document = u.document OFFSET 0) g

-- locked_elsewhere(int4, jsonb[]): those of these keys whose document another session has locked; locks the others
SELECT u.key::pg_catalog.text AS key
FROM pg_catalog.unnest($2) u (key)
CROSS JOIN LATERAL (SELECT FROM embed.document d WHERE d.generation = $1 AND d.key = u.key OFFSET 0) d
LEFT JOIN LATERAL (SELECT true AS ours FROM embed.document d WHERE d.generation = $1 AND d.key = u.key
                   FOR UPDATE SKIP LOCKED) mine ON true
WHERE mine.ours IS NULL

-- reserve_document_ids(int4): ids for new documents; other sessions may take ids in between
SELECT pg_catalog.array_agg(pg_catalog.nextval('embed.document_id_seq')) AS ids FROM pg_catalog.generate_series(1, $1)

-- copy_documents(): new documents, from a file in COPY's binary format; half the time of upsert_documents
COPY embed.document (id, generation, key, fingerprint, src_hash, chunks, changed_at, embedded_at) FROM {path} (FORMAT binary)

-- upsert_documents(int4, jsonb[], bytea[], bytea[], int4[], timestamptz[]): inserts or updates documents
INSERT INTO embed.document (generation, key, fingerprint, src_hash, chunks, changed_at, embedded_at)
SELECT $1, u.key, u.fingerprint, u.src_hash, u.chunks, u.changed_at, pg_catalog.clock_timestamp()
FROM unnest($2, $3, $4, $5, $6) u (key, fingerprint, src_hash, chunks, changed_at)
ORDER BY u.key
ON CONFLICT (generation, key) DO UPDATE
SET fingerprint = EXCLUDED.fingerprint, src_hash = EXCLUDED.src_hash, chunks = EXCLUDED.chunks,
    changed_at = EXCLUDED.changed_at, embedded_at = EXCLUDED.embedded_at
RETURNING id, key::pg_catalog.text AS key

-- delete_documents(int4, jsonb[]): documents of deleted rows
DELETE FROM embed.document WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM pg_catalog.unnest($2) u (key)
    CROSS JOIN LATERAL (SELECT d.ctid FROM embed.document d WHERE d.generation = $1 AND d.key = u.key OFFSET 0) d))
RETURNING id

-- empty_documents(int4, jsonb[]): documents of rows that are given up. If an embed_verify(repair) holds one, it queues the row
-- again
UPDATE embed.document SET src_hash = '', chunks = 0 WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM pg_catalog.unnest($2) u (key)
    CROSS JOIN LATERAL (SELECT d.ctid FROM embed.document d WHERE d.generation = $1 AND d.key = u.key
                        FOR UPDATE SKIP LOCKED) d))
RETURNING id

-- delete_chunks(int8[], int8[]): texts that the documents no longer have
DELETE FROM {table} g WHERE g.ctid = ANY (ARRAY(
    SELECT c.ctid FROM unnest($1, $2) u (document, id)
    CROSS JOIN LATERAL (SELECT c.ctid FROM {table} c WHERE c.document = u.document AND c.id = u.id OFFSET 0) c))
RETURNING g.chunk_hash AS hash, {schema}.vector_send(g.embedding) AS embedding, g.key::pg_catalog.text AS key

-- delete_chunks_of_documents(int8[]): all chunks of deleted rows
DELETE FROM {table} g WHERE g.ctid = ANY (ARRAY(
    SELECT c.ctid FROM pg_catalog.unnest($1) u (document)
    CROSS JOIN LATERAL (SELECT c.ctid FROM {table} c WHERE c.document = u.document OFFSET 0) c))
RETURNING g.chunk_hash AS hash, {schema}.vector_send(g.embedding) AS embedding, g.key::pg_catalog.text AS key

-- update_chunks(int8[], int8[], int4[], bytea[], bytea[], text): unchanged chunks: renumbered, or verified against a new
-- fingerprint
UPDATE {table} g SET chunk_no = w.chunk_no, fingerprint = w.fingerprint, src_hash = w.src_hash, model = $6
FROM (SELECT c.ctid, u.* FROM unnest($1, $2, $3, $4, $5) u (document, id, chunk_no, fingerprint, src_hash)
      CROSS JOIN LATERAL (SELECT c.ctid FROM {table} c WHERE c.document = u.document AND c.id = u.id OFFSET 0) c OFFSET 0) w
WHERE g.ctid = w.ctid

-- has_pg_cron(): whether pg_cron runs jobs for this database
SELECT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_cron')
   AND pg_catalog.current_setting('cron.database_name', true) = pg_catalog.current_database()

-- unschedule_index_jobs(int4[], text): jobs of generations being dropped; $2: the beginning of their names
SELECT cron.unschedule(c.jobid) FROM cron.job c
WHERE c.database = pg_catalog.current_database()
  AND pg_catalog.starts_with(c.jobname, $2)
  AND pg_catalog.substring(c.jobname, 'g([0-9]+)_[a-z0-9_]*$') = ANY ($1::pg_catalog.text[])

-- erase_chunks(int4, jsonb): deletes the row's texts and vectors
DELETE FROM {table} g WHERE g.ctid = ANY (ARRAY(
    SELECT c.ctid FROM embed.document d
    CROSS JOIN LATERAL (SELECT c.ctid FROM {table} c WHERE c.document = d.id OFFSET 0) c
    WHERE d.generation = $1 AND d.key = $2))
RETURNING g.chunk_hash AS hash

-- delete_document(int4, jsonb): deletes what is stored for the row
DELETE FROM embed.document WHERE generation = $1 AND key = $2

-- erase_in_flight(int4, bytea[], int8): the row's texts are no longer in flight
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

-- texts_of_claim(int4, int8): texts of the claim that held the row; which of them are the row's is no longer known
SELECT i.hash FROM embed.in_flight i WHERE i.model = $1 AND i.token = $2

-- delete_damaged_chunks(int8[], int8[]): chunks that do not match the values stored with them; a drain recreates them.
-- Here and below, a row that another session is writing is left to that session: nothing waits for an open drain.
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM unnest($1, $2) u (document, id)
    CROSS JOIN LATERAL (SELECT c.ctid FROM {table} c WHERE c.document = u.document AND c.id = u.id
                        FOR UPDATE SKIP LOCKED) c))

-- keys_of_orphaned_chunks(int4): chunks without a document
SELECT DISTINCT g.key::pg_catalog.text AS key FROM {table} g
WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.id = g.document)

-- delete_unlocked_orphaned_chunks(int4): deletes them
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT g.ctid FROM {table} g
    WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.id = g.document)
    FOR UPDATE SKIP LOCKED))

-- mark_documents_stale(int4, jsonb[]): marks what is stored for these keys as untrusted
UPDATE embed.document SET src_hash = '' WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM pg_catalog.unnest($2) u (key)
    CROSS JOIN LATERAL (SELECT d.ctid FROM embed.document d WHERE d.generation = $1 AND d.key = u.key
                        FOR UPDATE SKIP LOCKED) d))

-- recount_documents(int4): counts documents restored while triggers were disabled; concurrent inserts count themselves
INSERT INTO embed.document_count (generation, documents)
SELECT g.id, c.number - embed.documents(g.id)
FROM embed.generation g
CROSS JOIN LATERAL (SELECT count(*) AS number FROM embed.document d WHERE d.generation = g.id) c
WHERE g.pipeline = $1 AND c.number <> embed.documents(g.id)

-- advance_document_ids(): moves the sequence past the existing ids
SELECT pg_catalog.setval('embed.document_id_seq', m.id)
FROM (SELECT max(d.id) AS id FROM embed.document d) m, embed.document_id_seq s WHERE m.id >= s.last_value

-- delete_documents_of_generations(int4[]): all documents of these generations
DELETE FROM embed.document WHERE generation = ANY ($1)

-- delete_usage(int4): usage and lag of a pipeline
WITH lag AS (DELETE FROM embed.lag WHERE pipeline = $1)
DELETE FROM embed.usage WHERE pipeline = $1

-- is_valid_index(text): whether this index of a generation exists and is valid
SELECT EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indexrelid = pg_catalog.to_regclass('embed_store.' || $1) AND i.indisvalid)
