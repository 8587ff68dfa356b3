-- src_body(): key and hash of every row, inlined into the view and the policy, so that the reader's own privileges apply.
-- shows_stale: row security does not apply to the reader, who also sees chunks of a row's earlier text. Looked up once per
-- query. The CASE disappears before planning. Until then, TABLESAMPLE makes parsing fail if a view has taken the name, whose
-- code would run as the reader.
SELECT {columns}, {src_hash}, (SELECT NOT pg_catalog.row_security_active({table}::pg_catalog.regclass::pg_catalog.oid))
FROM {source} s
WHERE {condition}CASE WHEN false THEN (SELECT true FROM {source} TABLESAMPLE pg_catalog.system (0)) ELSE true END

-- src_view_body(): the same for a view. The view of another role, which has taken the name, is not run.
SELECT {columns}, {src_hash}, (SELECT {shows_stale} FROM pg_catalog.pg_class c
                               WHERE c.oid OPERATOR(pg_catalog.=) {table}::pg_catalog.regclass::pg_catalog.oid)
FROM {source} s
WHERE {condition}(SELECT pg_catalog.pg_get_userbyid(c.relowner) OPERATOR(pg_catalog.=) {owner}::pg_catalog.name FROM pg_catalog.pg_class c
                  WHERE c.oid OPERATOR(pg_catalog.=) {table}::pg_catalog.regclass::pg_catalog.oid)

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

-- index_hash(): a text that is stored anywhere is not sent again
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

-- cache_orphaned_chunks(int4, int4, int4, int4): caches the vectors of chunks without a document: they cost money
INSERT INTO embed.cache (model, hash, embedding, pipeline, key, revision)
SELECT DISTINCT ON (g.chunk_hash) $2, g.chunk_hash, g.embedding, $3, g.key, $4 FROM {table} g
WHERE g.chunk_hash <> '' AND NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.key = g.key AND d.id = g.document)
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
FROM {readable} g {source}

-- joined_source(): the current row of each chunk
JOIN embed_store.src_{generation}() s ON {matches}

-- grouped_source(): the same for a view that aggregates: looked up for each chunk, instead of all of its rows for each search
CROSS JOIN LATERAL (SELECT s.h, s.shows_stale FROM embed_store.src_{generation}() s WHERE {matches} OFFSET 0) s

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
