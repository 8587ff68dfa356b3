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

-- insert_cached(int4, bytea[], {vector}[], int4, jsonb[], bool): caches vectors of texts that are no longer live ($6 true) or that
-- arrived too late, and the rows they belonged to
INSERT INTO embed.cache (model, hash, embedding, pipeline, key, replaced)
SELECT DISTINCT ON (u.hash) $1, u.hash, u.embedding, $4, u.key, $6 FROM unnest($2, $3, $5) u (hash, embedding, key) ORDER BY u.hash
ON CONFLICT (model, hash) DO UPDATE
SET kept_at = pg_catalog.clock_timestamp(), pipeline = EXCLUDED.pipeline, key = EXCLUDED.key, replaced = EXCLUDED.replaced

-- check_cache_unlocked(): raises 55P03 if another session has locked the whole table
LOCK TABLE embed.cache IN ROW EXCLUSIVE MODE NOWAIT

-- purge_cache(text): vectors cached longer than cache_retention
WITH old AS (
    SELECT c.ctid FROM embed.cache c WHERE c.kept_at < pg_catalog.clock_timestamp() - $1::pg_catalog.interval
    ORDER BY c.kept_at LIMIT 10000 FOR UPDATE SKIP LOCKED)
DELETE FROM embed.cache c USING old WHERE c.ctid = old.ctid

-- trim_cache(int8): the oldest vectors of replaced texts beyond $1; NULL: beyond the number of live vectors, at least 1,000.
-- So bulk edits, each of which replaces every vector, do not add up. Counts while the cache is small, otherwise estimates: this
-- runs every minute. Imported and late vectors are still to be used, and stay.
WITH live AS (
    SELECT coalesce(sum(CASE WHEN c.reltuples >= 0 THEN c.reltuples
                             ELSE (SELECT sum(d.chunks) FROM embed.document d WHERE d.generation = g.id) END), 0) AS vectors
    FROM embed.generation g JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass('embed_store.g' || g.id)
), kept AS (
    SELECT CASE WHEN c.reltuples < 0 OR pg_catalog.pg_relation_size(c.oid) < 256 * 1024 * 1024
                THEN (SELECT count(*) FROM embed.cache k WHERE k.replaced) ELSE c.reltuples END AS vectors
    FROM pg_catalog.pg_class c WHERE c.oid = 'embed.cache'::pg_catalog.regclass
), old AS (
    SELECT c.ctid FROM embed.cache c WHERE c.replaced
    ORDER BY c.kept_at
    LIMIT (SELECT least(greatest(k.vectors - coalesce($1, greatest(l.vectors, 1000)), 0), 20000)::pg_catalog.int8 FROM live l, kept k)
    FOR UPDATE SKIP LOCKED)
DELETE FROM embed.cache c USING old WHERE c.ctid = old.ctid

-- purge_erased(): late workers have finished by now
DELETE FROM embed.erased_text WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM embed.erased_text f
    WHERE f.erased_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(days => 1) FOR UPDATE SKIP LOCKED))

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
    WHERE NOT l.folded AND l.at < pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp())
    ORDER BY l.at LIMIT $1 FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM embed.lag l WHERE l.ctid = ANY (ARRAY(SELECT o.ctid FROM old o)) RETURNING l.*),
summed AS (
    SELECT g.pipeline, g.lane, pg_catalog.date_trunc('minute', g.at) AS at, u.bucket, sum(u.count)::pg_catalog.int8 AS count
    FROM gone g CROSS JOIN LATERAL unnest(g.buckets, g.counts) u (bucket, count)
    GROUP BY 1, 2, 3, 4)
INSERT INTO embed.lag (pipeline, lane, at, folded, buckets, counts)
SELECT s.pipeline, s.lane, s.at, true, pg_catalog.array_agg(s.bucket ORDER BY s.bucket), pg_catalog.array_agg(s.count ORDER BY s.bucket)
FROM summed s GROUP BY s.pipeline, s.lane, s.at

-- delete_old_lag(): rows that embed_status no longer shows, and those inserted while their pipeline was dropped
DELETE FROM embed.lag WHERE ctid = ANY (ARRAY(
    SELECT l.ctid FROM embed.lag l
    WHERE l.at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(hours => 1, mins => 1)
       OR NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = l.pipeline)
    FOR UPDATE SKIP LOCKED))

-- generations_of_model(int4): live generations of a model
SELECT g.id, g.pipeline FROM embed.generation g WHERE g.model = $1 ORDER BY g.id

-- own_pipelines(int4, text): pipelines that a role administers; role NULL: the owner of pipeline $1's table.
-- Returns NULL for embed_admin: all pipelines, including dropped ones.
SELECT CASE WHEN NOT coalesce(pg_catalog.pg_has_role(w.role, 'embed_admin', 'USAGE'), false) THEN ARRAY(
    SELECT p.id FROM embed.pipeline p LEFT JOIN pg_catalog.pg_class c ON c.oid = p.source
    WHERE p.id = $1 OR coalesce(pg_catalog.pg_has_role(w.role, c.relowner, 'USAGE'), false)) END AS ids
FROM (SELECT coalesce($2::name, (SELECT pg_catalog.pg_get_userbyid(c.relowner)
                                 FROM embed.pipeline p JOIN pg_catalog.pg_class c ON c.oid = p.source WHERE p.id = $1)) AS role) w

-- find_vectors(int4, bytea[], int4[]): existing vectors, live or cached, and whether they belong to the pipelines $3 (NULL: all).
-- One statement, so that a text is seen either here or in flight. It has one arm for each live generation.
SELECT c.hash, {schema}.vector_send(c.embedding) AS embedding, coalesce($3 IS NULL OR c.pipeline = ANY ($3), false) AS is_own
FROM pg_catalog.unnest($2) u (hash)
CROSS JOIN LATERAL (SELECT c.hash, c.embedding, c.pipeline FROM embed.cache c
                    WHERE c.model = $1 AND c.hash = u.hash OFFSET 0) c
{live}

-- find_live_vectors(): one live generation
UNION ALL SELECT g.chunk_hash, {schema}.vector_send(g.embedding), $3 IS NULL OR {pipeline} = ANY ($3)
FROM pg_catalog.unnest($2) u (hash)
CROSS JOIN LATERAL (SELECT g.chunk_hash, g.embedding FROM embed_store.g{generation} g WHERE g.chunk_hash = u.hash LIMIT 1) g

-- mark_in_flight(int4, bytea[], int8): inserts in the same order in every session. DO NOTHING, because DO UPDATE would lock other
-- sessions' rows.
-- It locks them even if its WHERE excludes them, and the worker that sends the text could not record its result.
INSERT INTO embed.in_flight (model, hash, token, expires_at)
SELECT $1, h.hash, $3, (SELECT embed.lease_end($3))
FROM (SELECT DISTINCT u.hash FROM pg_catalog.unnest($2) u (hash)) h
ORDER BY h.hash
ON CONFLICT (model, hash) DO NOTHING
RETURNING hash

-- take_over_in_flight(int4, bytea[], int8, int8[]): texts of claims that are dead or expired, and of this session's claims
UPDATE embed.in_flight
SET token = $3, expires_at = (SELECT embed.lease_end($3))
WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM pg_catalog.unnest($2) u (hash)
    CROSS JOIN LATERAL (SELECT i.ctid FROM embed.in_flight i
                        WHERE i.model = $1 AND i.hash = u.hash
                          AND (i.expires_at <= pg_catalog.clock_timestamp() OR i.token = ANY ($4) OR i.token = $3)
                        FOR UPDATE SKIP LOCKED) i))
RETURNING hash

-- clear_in_flight(int4, bytea[], int8): these texts are no longer in flight
DELETE FROM embed.in_flight WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM pg_catalog.unnest($2) u (hash)
    CROSS JOIN LATERAL (SELECT i.ctid FROM embed.in_flight i WHERE i.model = $1 AND i.hash = u.hash AND i.token = $3
                        FOR UPDATE SKIP LOCKED) i))

-- tokens_without_worker(int8[]): claims of any generation whose worker is gone; take_over_in_flight compares the expiry
SELECT coalesce(pg_catalog.array_agg(l.token), '{}') AS tokens
FROM embed.lease l
WHERE l.token <> ALL ($1)
  AND embed.is_abandoned(l.token, l.expires_at)

-- record_usage(int4, int4, int8, int8, int8, int8, int8, int8, float8, int8, int8, int8, float8, int8, int8): one batch
INSERT INTO embed.usage
    (pipeline, model, calls, texts, tokens, saved_by_fingerprint, saved_by_cache, saved_by_dedupe, cost,
     alone_calls, alone_texts, alone_tokens, alone_cost, alone_saved_by_cache, alone_saved_by_dedupe)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)

-- record_query_usage(int4, int4, int8, int8, int8, float8): queries sent to a model; pipeline NULL: embed()
INSERT INTO embed.usage
    (pipeline, model, calls, texts, tokens, saved_by_fingerprint, saved_by_cache, saved_by_dedupe, cost, questions,
     alone_calls, alone_texts, alone_tokens, alone_cost, alone_saved_by_cache, alone_saved_by_dedupe)
VALUES ($1, $2, $3, $4, $5, 0, 0, 0, $6, $4, $3, $4, $5, $6, 0, 0)

-- is_writable(): false on a standby and in a READ ONLY transaction
SELECT NOT pg_catalog.current_setting('transaction_read_only')::boolean AS may

-- aggregate_usage(int4): merges batches of past hours into one row per hour
WITH old AS MATERIALIZED (
    SELECT u.ctid FROM embed.usage u
    WHERE NOT u.folded AND u.at < pg_catalog.date_trunc('hour', pg_catalog.clock_timestamp())
    ORDER BY u.at LIMIT $1 FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM embed.usage u WHERE u.ctid = ANY (ARRAY(SELECT o.ctid FROM old o)) RETURNING u.*)
INSERT INTO embed.usage
    (pipeline, model, at, folded, calls, texts, tokens, saved_by_fingerprint, saved_by_cache, saved_by_dedupe, cost,
     alone_calls, alone_texts, alone_tokens, alone_cost, alone_saved_by_cache, alone_saved_by_dedupe, questions)
SELECT g.pipeline, g.model, pg_catalog.date_trunc('hour', g.at), true, sum(g.calls), sum(g.texts), sum(g.tokens),
       sum(g.saved_by_fingerprint), sum(g.saved_by_cache), sum(g.saved_by_dedupe), sum(g.cost),
       sum(g.alone_calls), sum(g.alone_texts), sum(g.alone_tokens), sum(g.alone_cost),
       sum(g.alone_saved_by_cache), sum(g.alone_saved_by_dedupe), sum(g.questions)
FROM gone g GROUP BY g.pipeline, g.model, pg_catalog.date_trunc('hour', g.at)

-- delete_orphaned_usage(): batches that were in flight when their pipeline was dropped
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

-- delete_chunks(int8[], int8[]): texts that are no longer live
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

-- delete_live_from_cache(int4, bytea[]): cached vectors that are live now
DELETE FROM embed.cache WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM pg_catalog.unnest($2) u (hash)
    CROSS JOIN LATERAL (SELECT c.ctid FROM embed.cache c WHERE c.model = $1 AND c.hash = u.hash FOR UPDATE SKIP LOCKED) c
    WHERE EXISTS (SELECT FROM {table} g WHERE g.chunk_hash = u.hash)))

-- src_body(): key and hash of every row, inlined into the view and the policy, so that the reader's own privileges apply.
-- shows_stale: row security does not apply to the reader, who also sees chunks of a row's earlier text. Looked up once per
-- query. The CASE disappears before planning. Until then, TABLESAMPLE makes parsing fail if a view has taken the name, whose
-- code would run as the reader.
SELECT {columns}, {src_hash}, (SELECT NOT pg_catalog.row_security_active({table}::pg_catalog.regclass::pg_catalog.oid))
FROM {source} s
WHERE {condition}CASE WHEN false THEN (SELECT true FROM {source} TABLESAMPLE pg_catalog.system (0)) ELSE true END

-- src_empty_body(): for a source that no longer exists
SELECT {columns}, NULL::pg_catalog.bytea, false WHERE false

-- create_table(): one vector space. chunk_no is in no index and pages have free space, so that renumbering stays HOT.
-- bigserial: a partition may not have an identity column of its own (PostgreSQL 17).
CREATE TABLE {table} (
    document bigint NOT NULL,
    id bigserial,
    {key_columns},
    key jsonb NOT NULL,
    chunk_no int NOT NULL,
    chunk text NOT NULL,
    chunk_hash bytea NOT NULL,
    embedding {vector}({dimensions}) NOT NULL,
    model text NOT NULL,
    fingerprint bytea NOT NULL,
    src_hash bytea NOT NULL,
    embedded_at timestamptz NOT NULL,
    PRIMARY KEY (document, id)
) WITH ({storage})

-- no_statistics(): ANALYZE would copy texts and vectors into pg_statistic, where nothing erases them.
-- It also runs code of the key's types as the owner of this table, and the planner would run more of it on what ANALYZE stored.
ALTER TABLE ONLY {table} {columns}

-- column_without_statistics(): the same for one column
ALTER COLUMN {column} SET STATISTICS 0

-- with_statistics(): generation tables for which ANALYZE stores values that it must not, or may
SELECT t.name, pg_catalog.array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM embed.generation g
CROSS JOIN LATERAL (VALUES ('embed_store.g' || g.id), ('embed_store.readable_' || g.id)) t (name)
JOIN pg_catalog.pg_attribute a ON a.attrelid = pg_catalog.to_regclass(t.name) AND NOT a.attisdropped
WHERE (a.attname IN ('chunk', 'embedding') OR a.attname ~ '^k[0-9]+$')
  AND (a.attstattarget IS DISTINCT FROM 0
       OR EXISTS (SELECT FROM pg_catalog.pg_statistic s WHERE s.starelid = a.attrelid AND s.staattnum = a.attnum))
GROUP BY t.name

-- forget_statistics(text, text[]): deletes what ANALYZE stored about these columns
DELETE FROM pg_catalog.pg_statistic s USING pg_catalog.pg_attribute a
WHERE s.starelid = pg_catalog.to_regclass($1) AND a.attrelid = s.starelid AND a.attnum = s.staattnum AND a.attname = ANY ($2)

-- index_key(): the view joins by key
CREATE INDEX ON {table} ({key_names})

-- index_hash(): a text that is live anywhere is not sent again
CREATE INDEX ON {table} (chunk_hash)

-- comment_table(): describes the table
COMMENT ON TABLE {table} IS {comment}

-- create_readable(): what readers see of a generation: the parent of its table.
-- Row security is on the parent, so it applies before any condition of the reader, and a role that may read all data can dump
-- the table itself. (pg_dump fails on row security, whatever the policies allow; it does not read parents.)
CREATE TABLE {readable} (LIKE {table}) PARTITION BY LIST (document)

-- attach_table(): attaches the table as the only partition; a plan through the parent equals the table's own
ALTER TABLE {readable} ATTACH PARTITION {table} DEFAULT

-- comment_readable(): describes the parent
COMMENT ON TABLE {readable} IS {comment}

-- enable_policy(): applies before any condition of the reader, and in statistics views too
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY

-- create_policy(): a role sees a chunk if it sees its row in the source.
-- If row security applies to the role, the chunk must also be of the row's current text: the key, or the text, may have been
-- another tenant's until a moment ago. Two EXISTS, because one with an OR inside could not be hashed; the planner removes the
-- one that cannot be true.
CREATE POLICY evergreen_as_source ON {table} FOR SELECT
USING (EXISTS (SELECT FROM embed_store.src_{generation}() s WHERE {matches} AND s.shows_stale)
    OR EXISTS (SELECT FROM embed_store.src_{generation}() s
               WHERE {matches} AND s.h OPERATOR(pg_catalog.=) {name}.src_hash))

-- has_row_security(oid, text): whether the source has row security, and whether the generation's own table has
SELECT s.relrowsecurity AS source, g.relrowsecurity AS own
FROM pg_catalog.pg_class s, pg_catalog.pg_class g WHERE s.oid = $1 AND g.oid = pg_catalog.to_regclass($2)

-- grant_table(): the schema stays closed, so only the view reaches this table
GRANT SELECT ON {table} TO PUBLIC

-- create_trigger(): TRUNCATE queues a check of every row
CREATE TRIGGER truncated AFTER TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION embed.follow_truncate()

-- enable_always(): fires under session_replication_role = replica as well
ALTER TABLE {table} ENABLE ALWAYS TRIGGER truncated

-- delete_incomplete_documents(int4): deletes documents with missing chunks; returns how many
WITH stored AS MATERIALIZED (SELECT g.document, count(*) AS chunks FROM {table} g GROUP BY g.document),
     dropped AS (DELETE FROM embed.document WHERE ctid = ANY (ARRAY(
         SELECT d.ctid FROM embed.document d LEFT JOIN stored s ON s.document = d.id
         WHERE d.generation = $1 AND d.chunks <> coalesce(s.chunks, 0))) RETURNING 1)
SELECT count(*) FROM dropped

-- cache_orphaned_chunks(int4, int4, int4): caches the vectors of chunks without a document: they cost money
INSERT INTO embed.cache (model, hash, embedding, pipeline, key)
SELECT DISTINCT ON (g.chunk_hash) $2, g.chunk_hash, g.embedding, $3, g.key FROM {table} g
WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.key = g.key AND d.id = g.document)
ORDER BY g.chunk_hash
ON CONFLICT (model, hash) DO NOTHING

-- delete_orphaned_chunks(int4): deletes chunks without a document
DELETE FROM {table} g
WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.key = g.key AND d.id = g.document)

-- guard_generation(int4): keeps rows of another server's evergreen out of the table, if this database subscribes to one
SELECT embed.guard_generation($1)

-- create_view(): generation table joined to the source; no typmod, so that a view can switch to other dimensions.
-- s.h hashes the whole source row for each chunk, so it is not read if the policy has removed stale chunks: an exact search by
-- such a reader took 40 s for a document of 2,000 chunks. Members of the table owner's role bypass the policy.
CREATE OR REPLACE VIEW {view} WITH (security_invoker = true) AS
SELECT {key_columns}, g.key, g.chunk_no, g.chunk, g.embedding::{vector} AS embedding, g.model, g.fingerprint,
       g.embedded_at,
       (s.shows_stale OR (SELECT NOT pg_catalog.row_security_active('{readable}'::pg_catalog.regclass::pg_catalog.oid)))
       AND g.src_hash IS DISTINCT FROM s.h AS is_stale, {generation} AS generation
FROM {readable} g JOIN embed_store.src_{generation}() s ON {matches}

-- comment_view(): describes the view
COMMENT ON VIEW {view} IS {comment}

-- grant_view(): the reader's privileges on the source decide
GRANT SELECT ON {view} TO PUBLIC

-- drop_view(): without CASCADE, so that the user's own views are not dropped silently
DROP VIEW IF EXISTS {view}

-- drop_table(): drops the generation's vectors and the parent
DROP TABLE IF EXISTS {readable}, {table}

-- detach_table(): a kept table is an ordinary table
ALTER TABLE {readable} DETACH PARTITION {table}

-- drop_readable(): no reader uses it any more
DROP TABLE {readable}

-- own_triggers(text): our triggers on the table
SELECT t.tgname::text AS name FROM pg_catalog.pg_trigger t
WHERE t.tgrelid = pg_catalog.to_regclass($1) AND t.tgname IN ('skip_replicated', 'truncated')

-- drop_trigger(): a kept table is an ordinary table
DROP TRIGGER {name} ON {table}

-- drop_policy(): a kept table is an ordinary table
DROP POLICY IF EXISTS evergreen_as_source ON {table}

-- disable_policy(): a kept table is an ordinary table
ALTER TABLE {table} DISABLE ROW LEVEL SECURITY

-- relation_name(oid): quoted, qualified name of a relation
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1

-- may_create(text, text): whether a role may create relations in a schema
SELECT pg_catalog.has_schema_privilege($1, $2, 'CREATE') OR pg_catalog.pg_has_role($1, 'embed_admin', 'USAGE')

-- is_leftover_view(text, text): whether a view belongs to a generation without a pipeline, as after a restore of the schema
-- alone
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
    JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
        AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    JOIN pg_catalog.pg_proc f ON f.oid = d.refobjid AND f.pronamespace = pg_catalog.to_regnamespace('embed_store')
        AND pg_catalog.starts_with(f.proname::pg_catalog.text, 'src_')
    WHERE c.relname = $2 AND c.relkind = 'v' AND NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.view = c.oid)
      AND NOT EXISTS (SELECT FROM embed.generation g WHERE f.proname = pg_catalog.concat('src_', g.id)))

-- relation_exists(text, text): whether a schema has a relation of this name
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = $1 AND c.relname = $2)

-- has_pg_cron(): whether pg_cron runs jobs for this database
SELECT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_cron')
   AND pg_catalog.current_setting('cron.database_name', true) = pg_catalog.current_database()

-- unschedule_index_jobs(int4[]): jobs of generations being dropped
SELECT cron.unschedule(c.jobid) FROM cron.job c
WHERE c.database = pg_catalog.current_database()
  AND c.jobname LIKE 'evergreen index ' || pg_catalog.current_database() || ' g%'
  AND pg_catalog.substring(c.jobname, 'g([0-9]+)_[a-z0-9_]*$') = ANY ($1::pg_catalog.text[])

-- lock_for_drop(): conflicts only with another session that drops the same tables
LOCK TABLE {tables} IN ROW SHARE MODE

-- lock_table(): no other session reads or writes it from now on
LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE

-- cancel_index_builds(text[]): cancels index builds on these tables, which are run by our workers or by jobs they scheduled
SELECT pg_catalog.pg_cancel_backend(p.pid)
FROM pg_catalog.pg_stat_progress_create_index p JOIN pg_catalog.pg_stat_activity a ON a.pid = p.pid
WHERE p.relid = ANY (ARRAY(SELECT pg_catalog.to_regclass(t.name)::pg_catalog.oid FROM pg_catalog.unnest($1) t (name)))
  AND (pg_catalog.pg_has_role(current_user, a.usesysid, 'MEMBER') OR pg_catalog.pg_has_role(current_user, 'pg_signal_backend', 'MEMBER'))

-- lock_holders(text[]): sessions with a lock on these tables; an autovacuum yields to a waiting session
SELECT DISTINCT l.pid, a.usename::text AS usename, a.application_name,
       a.backend_type = 'autovacuum worker' OR p.pid IS NOT NULL
           OR (a.state = 'active' AND a.query ~* 'embed_(work|drain|claim|submit|release) *[(]') AS ours
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_stat_progress_create_index p ON p.pid = l.pid
WHERE l.granted AND l.pid <> pg_catalog.pg_backend_pid()
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
  AND l.relation = ANY (ARRAY(SELECT pg_catalog.to_regclass(t.name)::pg_catalog.oid FROM pg_catalog.unnest($1) t (name)))
ORDER BY l.pid

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

-- clear_all_in_flight(int4[]): no text of these models is in flight
DELETE FROM embed.in_flight WHERE model = ANY ($1)

-- delete_documents_of_generations(int4[]): all documents of these generations
DELETE FROM embed.document WHERE generation = ANY ($1)

-- delete_usage(int4): usage and lag of a pipeline
WITH lag AS (DELETE FROM embed.lag WHERE pipeline = $1)
DELETE FROM embed.usage WHERE pipeline = $1

-- delete_cache_of_model(int4): cached vectors of a model, and its texts in flight
WITH cached AS (DELETE FROM embed.cache WHERE model = $1)
DELETE FROM embed.in_flight WHERE model = $1
