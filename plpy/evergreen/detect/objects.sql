-- store_schema_owner(): is the schema there, and the extension owner's: another role could replace what we run
SELECT n.nspowner = e.extowner AS ours
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.nspname = 'embed_store' WHERE e.extname = 'evergreen'

-- creators(): roles that may create in it, quoted
SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS name
FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
WHERE n.nspname = 'embed_store' AND a.grantee <> n.nspowner AND a.privilege_type = 'CREATE'

-- close_store_schema(): nobody else makes functions where ours are looked for
REVOKE CREATE ON SCHEMA embed_store FROM {role} CASCADE

-- store_schema(): made by the first embed_create; never a member of the extension
CREATE SCHEMA embed_store

-- store_schema_comment(): says what it is
COMMENT ON SCHEMA embed_store IS 'evergreen: vectors and generated functions; read them through the <pipeline>_embedding views'

-- replace_function(): a generated function; {body} is a quoted string, so nothing in it can end it
CREATE OR REPLACE FUNCTION {signature} RETURNS {returns}
LANGUAGE {language} {volatility} {security} SUPPORT embed.belongs
SET search_path = pg_catalog, pg_temp{settings}
AS {body}

-- replace_inlined_function(): as above without SET, which would keep the planner from inlining it
CREATE OR REPLACE FUNCTION {signature} RETURNS {returns}
LANGUAGE sql STABLE SUPPORT embed.belongs
AS {body}

-- check_bodies(text): whether CREATE FUNCTION reads the bodies from here on; returns whether it did before
SELECT pg_catalog.current_setting('check_function_bodies') AS before, pg_catalog.set_config('check_function_bodies', $1, true)

-- open_function(): it runs with the rights of whoever asks
GRANT EXECUTE ON FUNCTION {signature} TO PUBLIC

-- lend_function(): the owner of a partitioned table makes partitions, and copies of our triggers with them
GRANT EXECUTE ON FUNCTION {signature} TO {owner}

-- give_function(): the user's code that it runs (casts, domain checks) runs as the user
ALTER FUNCTION {signature} OWNER TO {owner}

-- other_owner(text): the extension's owner, quoted, where a function belongs to another role: one that was there before it
-- was made keeps its owner, who could replace it
SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.extowner))
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_proc p ON p.proowner <> e.extowner
WHERE e.extname = 'evergreen' AND p.oid = pg_catalog.to_regprocedure($1)

-- comment_function(): says whose it is
COMMENT ON FUNCTION {signature} IS {comment}

-- drop_function(): a generated function that is no longer needed
DROP FUNCTION IF EXISTS {signature}

-- capture_body(): logs the keys of rows whose watched columns changed; bytewise, so json and citext case count too
DECLARE
    old_key pg_catalog.jsonb;
    new_key pg_catalog.jsonb;
    known pg_catalog.bool = false;
    wake pg_catalog.bool;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO embed.change (pipeline, scope) VALUES ({pipeline}, 'document');
        RETURN NULL;
    END IF;
    -- What can fail stands in a block of its own, which writes nothing and so takes no transaction id: if the table was
    -- altered and this function was not, the owner's write goes through and everything is looked at again; if the table of
    -- locks is full, nobody is woken.
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            IF NOT pg_catalog.record_image_ne(ROW({old_watched}), ROW({new_watched})) THEN
                RETURN NULL;
            END IF;
            IF pg_catalog.record_image_ne(ROW({old_key}), ROW({new_key})) THEN
                old_key = {old_key_document};
            END IF;
        END IF;
        IF TG_OP = 'DELETE' THEN
            old_key = {old_key_document};
        ELSE
            new_key = {new_key_document};
        END IF;
        known = true;{probe}
    EXCEPTION WHEN OTHERS THEN
        IF NOT known THEN
            INSERT INTO embed.change (pipeline, scope) VALUES ({pipeline}, 'source');
            RETURN NULL;
        END IF;
    END;
    IF old_key IS NOT NULL THEN
        INSERT INTO embed.change (pipeline, key, wake) VALUES ({pipeline}, old_key, wake);
    END IF;
    IF new_key IS NOT NULL THEN
        INSERT INTO embed.change (pipeline, key, wake) VALUES ({pipeline}, new_key, wake);
    END IF;
    RETURN NULL;
END

-- capture_probe(): is a worker asleep, see 20_schedule/wake.sql; once a transaction has a row that wakes, no other need
        IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(1163285066, 0)
           AND coalesce(pg_catalog.current_setting('evergreen.wakes', true), '') = '' THEN
            wake = true;
            PERFORM pg_catalog.set_config('evergreen.wakes', 'on', true);
        END IF;

-- may_prepare(): can transactions be prepared in this server
SELECT pg_catalog.current_setting('max_prepared_transactions') <> '0'

-- capture_nothing_body(): for a source whose key is gone: the user's writes go on
BEGIN
    RETURN NULL;
END

-- reader_body(): the rows of a JSON array of keys; a row that only equals the asked key (citext) is another row
SELECT k.ord::pg_catalog.int4, {src_hash}, {content}, {frame}
FROM pg_catalog.jsonb_array_elements($1) WITH ORDINALITY k (key, ord)
JOIN {source} s ON {matches}
WHERE {key_document} OPERATOR(pg_catalog.=) k.key

-- scan_body(): the next keys in primary-key order, by index
BEGIN
    IF $1 IS NULL THEN
        RETURN QUERY SELECT {key_document} FROM {source} s ORDER BY {order} LIMIT $2;
    ELSE
        RETURN QUERY SELECT {key_document} FROM {source} s WHERE {after} ORDER BY {order} LIMIT $2;
    END IF;
END

-- count_body(): how many rows there are
BEGIN
    RETURN (SELECT count(*) FROM {source});
END

-- key_body(): a user's key in its stored form: as the row that it equals has it (citext, char), if there is one
SELECT coalesce((SELECT {row_key} FROM {source} r WHERE {matches}),
                (SELECT {key_document} FROM (SELECT {values}) s ({names})))

-- src_body(): key and hash of every row, inlined into the view and into the policy, so that the reader's own rights count.
-- shows_stale: row security does not apply to the reader, who sees chunks of a row's earlier text too. Looked up once a query.
-- The CASE is gone before planning. Until then TABLESAMPLE makes parsing fail if the name has become that of a view, whose
-- code would run as the reader.
SELECT {columns}, {src_hash}, (SELECT NOT pg_catalog.row_security_active({table}::pg_catalog.regclass::pg_catalog.oid))
FROM {source} s
WHERE {condition}CASE WHEN false THEN (SELECT true FROM {source} TABLESAMPLE pg_catalog.system (0)) ELSE true END

-- src_nothing_body(): for a source that is gone
SELECT {columns}, NULL::pg_catalog.bytea, false WHERE false

-- create_trigger(): {timing} is the event with its condition
CREATE TRIGGER {trigger} AFTER {event} ON {table} FOR EACH {level} {condition} EXECUTE FUNCTION {function}()

-- always(): also under session_replication_role = replica
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}

-- drop_trigger(): on this table
DROP TRIGGER IF EXISTS {trigger} ON {table}

-- named(text): the table of this name
SELECT pg_catalog.to_regclass($1)::oid::bigint

-- our_triggers(text): the triggers that call a capture function, wherever they are
SELECT c.oid::bigint AS table_oid,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS table_name,
       t.tgname::text AS trigger, t.tgenabled::text AS enabled, t.tgparentid <> 0 AS inherited
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgfoid = pg_catalog.to_regproc($1) AND NOT t.tgisinternal

-- ownerless(oid): triggers on a table and its partitions that are of no pipeline, as after a restore without the catalog
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS table_name, t.tgname::text AS trigger
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid AND f.proname ~ '^capture_[0-9]+$'
JOIN pg_catalog.pg_namespace h ON h.oid = f.pronamespace AND h.nspname = 'embed_store'
WHERE (t.tgrelid = $1 OR t.tgrelid IN (SELECT l.relid FROM embed.partition_tree($1) l (relid)))
  AND NOT t.tgisinternal AND t.tgparentid = 0
  AND NOT EXISTS (SELECT FROM embed.pipeline p WHERE f.proname = 'capture_' || p.id)

-- has_pages(oid): may there be rows in it
SELECT pg_catalog.pg_relation_size($1) > 0

-- leaves(oid): the source and all its partitions; without partitions just the source
SELECT c.oid::bigint AS table_oid,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS table_name
FROM embed.partition_tree($1) t (relid)
JOIN pg_catalog.pg_class c ON c.oid = t.relid AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
