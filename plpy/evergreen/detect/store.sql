-- create_table(): one vector space. chunk_no is in no index and pages have room, so that renumbering stays HOT
-- bigserial: a partition may not have an identity column of its own (PostgreSQL 17)
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

-- no_statistics(): ANALYZE would copy texts and vectors into pg_statistic, where nobody erases them, and it runs code of
-- the types of the key as the owner of this table; the planner would run more of it on what ANALYZE kept
ALTER TABLE ONLY {table} {columns}

-- column_without_statistics(): one of its columns
ALTER COLUMN {column} SET STATISTICS 0

-- with_statistics(): tables of generations of which ANALYZE might keep values that it must not, or has kept
SELECT t.name, pg_catalog.array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM embed.generation g
CROSS JOIN LATERAL (VALUES ('embed_store.g' || g.id), ('embed_store.readable_' || g.id)) t (name)
JOIN pg_catalog.pg_attribute a ON a.attrelid = pg_catalog.to_regclass(t.name) AND NOT a.attisdropped
WHERE (a.attname IN ('chunk', 'embedding') OR a.attname ~ '^k[0-9]+$')
  AND (a.attstattarget IS DISTINCT FROM 0
       OR EXISTS (SELECT FROM pg_catalog.pg_statistic s WHERE s.starelid = a.attrelid AND s.staattnum = a.attnum))
GROUP BY t.name

-- forget_statistics(text, text[]): what ANALYZE has kept of these columns
DELETE FROM pg_catalog.pg_statistic s USING pg_catalog.pg_attribute a
WHERE s.starelid = pg_catalog.to_regclass($1) AND a.attrelid = s.starelid AND a.attnum = s.staattnum AND a.attname = ANY ($2)

-- index_key(): the view joins by key
CREATE INDEX ON {table} ({key_names})

-- index_hash(): a text that is live anywhere is not sent again
CREATE INDEX ON {table} (chunk_hash)

-- comment_table(): says what it is
COMMENT ON TABLE {table} IS {comment}

-- create_readable(): what readers see of a generation: the parent of its table, so that row security can stand here, before
-- any condition of the reader is evaluated, and the table itself can be dumped by a role that may read all data. (pg_dump
-- fails on row security, whatever the policies let through; it does not read parents.)
CREATE TABLE {readable} (LIKE {table}) PARTITION BY LIST (document)

-- attach(): its only partition; a plan by the parent is the table's own
ALTER TABLE {readable} ATTACH PARTITION {table} DEFAULT

-- comment_readable(): says what it is
COMMENT ON TABLE {readable} IS {comment}

-- enable_policy(): before any condition of the reader is evaluated, and for statistics views too
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY

-- create_policy(): a chunk is visible to a role that sees its row in the source; where row security applies to the role,
-- while it is of the text that the row has now: the key may have been another tenant's, or the text, until a moment ago.
-- Two EXISTS, because with an OR inside of one it could not be hashed; the planner leaves out the one that cannot be true.
CREATE POLICY evergreen_as_source ON {table} FOR SELECT
USING (EXISTS (SELECT FROM embed_store.src_{generation}() s WHERE {matches} AND s.shows_stale)
    OR EXISTS (SELECT FROM embed_store.src_{generation}() s
               WHERE {matches} AND s.h OPERATOR(pg_catalog.=) {name}.src_hash))

-- row_security(oid, text): has the source row security, and has the generation's own table
SELECT s.relrowsecurity AS source, g.relrowsecurity AS own
FROM pg_catalog.pg_class s, pg_catalog.pg_class g WHERE s.oid = $1 AND g.oid = pg_catalog.to_regclass($2)

-- grant_table(): the schema stays closed, so this is reached through the view only
GRANT SELECT ON {table} TO PUBLIC

-- create_trigger(): TRUNCATE has every row checked
CREATE TRIGGER truncated AFTER TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION embed.follow_truncate()

-- always(): also under session_replication_role = replica
ALTER TABLE {table} ENABLE ALWAYS TRIGGER truncated

-- lost(int4, int4): documents whose chunks are not there
SELECT embed.lost_documents($1, $2)

-- drop_incomplete(int4): documents of which not all chunks are there; returns how many
WITH stored AS MATERIALIZED (SELECT g.document, count(*) AS chunks FROM {table} g GROUP BY g.document),
     dropped AS (DELETE FROM embed.document WHERE ctid = ANY (ARRAY(
         SELECT d.ctid FROM embed.document d LEFT JOIN stored s ON s.document = d.id
         WHERE d.generation = $1 AND d.chunks <> coalesce(s.chunks, 0))) RETURNING 1)
SELECT count(*) FROM dropped

-- keep_orphans(int4, int4, int4): vectors of chunks without a document were paid for
INSERT INTO embed.cache (model, hash, embedding, pipeline, key)
SELECT DISTINCT ON (g.chunk_hash) $2, g.chunk_hash, g.embedding, $3, g.key FROM {table} g
WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.key = g.key AND d.id = g.document)
ORDER BY g.chunk_hash
ON CONFLICT (model, hash) DO NOTHING

-- drop_orphans(int4): chunks without a document
DELETE FROM {table} g
WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.key = g.key AND d.id = g.document)

-- document_numbers(): go on behind those that are there
SELECT pg_catalog.setval('embed.document_id_seq', m.id)
FROM (SELECT max(d.id) AS id FROM embed.document d) m, embed.document_id_seq s WHERE m.id >= s.last_value

-- guard(int4): keeps rows of another server's evergreen out of it, where this one subscribes to any
SELECT embed.guard_generation($1)

-- create_view(): generation table joined to the source; no typmod, so that a view can switch to other dimensions
CREATE OR REPLACE VIEW {view} WITH (security_invoker = true) AS
SELECT {key_columns}, g.key, g.chunk_no, g.chunk, g.embedding::{vector} AS embedding, g.model, g.fingerprint,
       g.embedded_at, g.src_hash IS DISTINCT FROM s.h AS is_stale, {generation} AS generation
FROM {readable} g JOIN embed_store.src_{generation}() s ON {matches}

-- comment_view(): says what it is
COMMENT ON VIEW {view} IS {comment}

-- grant_view(): the rights of the reader on the source decide
GRANT SELECT ON {view} TO PUBLIC

-- drop_view(): without CASCADE, so that the user's own views are not lost in silence
DROP VIEW IF EXISTS {view}

-- drop_table(): the generation's vectors, with what readers see of them
DROP TABLE IF EXISTS {readable}, {table}

-- detach(): a kept table is an ordinary table
ALTER TABLE {readable} DETACH PARTITION {table}

-- drop_readable(): nobody reads through it
DROP TABLE {readable}

-- guards(text): our triggers on the table
SELECT t.tgname::text AS name FROM pg_catalog.pg_trigger t
WHERE t.tgrelid = pg_catalog.to_regclass($1) AND t.tgname IN ('skip_replicated', 'truncated')

-- drop_guard(): a kept table is an ordinary table
DROP TRIGGER {name} ON {table}

-- drop_policy(): a kept table is an ordinary table
DROP POLICY IF EXISTS evergreen_as_source ON {table}

-- drop_column(): of a table that nothing is read from any more
ALTER TABLE {table} DROP COLUMN {column}

-- disable_policy(): a kept table is an ordinary table
ALTER TABLE {table} DISABLE ROW LEVEL SECURITY

-- rename_table(): under a name that says what it was
ALTER TABLE {table} RENAME TO {name}

-- move_table(): to the source's schema
ALTER TABLE {table} SET SCHEMA {schema}

-- give_table(): to the source's owner
ALTER TABLE {table} OWNER TO {owner}

-- relation_name(oid): a relation's quoted, qualified name
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1

-- relation_oid(text): a relation by its quoted, qualified name
SELECT pg_catalog.to_regclass($1)::oid::bigint

-- may_create(text, text): may this role create relations in this schema
SELECT pg_catalog.has_schema_privilege($1, $2, 'CREATE') OR pg_catalog.pg_has_role($1, 'embed_admin', 'USAGE')

-- in_schema(text, text): is a relation of this name in this schema
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = $1 AND c.relname = $2)
