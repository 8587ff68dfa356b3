-- current_identity(): system identifier and database of this server
SELECT s.system_identifier, d.oid::bigint AS database_oid
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()

-- stored_key_types(oid): types of the key columns of a generation table, in order
SELECT a.attname::text AS name, a.atttypid::bigint AS type, a.atttypid < 16384 AS built_in FROM pg_catalog.pg_attribute a
WHERE a.attrelid = $1 AND a.attname ~ '^k[0-9]+$' AND NOT a.attisdropped ORDER BY a.attnum

-- update_pipeline(int4, text[], int4[], text[], text, int4, text): current names and numbers of the pipeline's columns; clears
-- broken_reason
UPDATE embed.pipeline SET key_names = $2::name[], key_attnums = $3::int2[], key_types = $4, only_if = $5::name,
                          only_if_attnum = $6::int2, source_name = $7, bound_name = $7, broken_reason = NULL
WHERE id = $1

-- named_source(int4): table of the pipeline's stored name and owner
SELECT embed.find_source(p.source_name, p.source_owner, p.definition IS NOT NULL)::bigint FROM embed.pipeline p WHERE p.id = $1

-- bind_by_name(int4): binds a pipeline to the tables of its stored names; 0: there is no such table
UPDATE embed.pipeline p SET source = t.source, view = t.view, broken_reason = NULL
FROM (SELECT coalesce(embed.find_source(o.source_name, o.source_owner, o.definition IS NOT NULL), 0) AS source, embed.find_view(o.view_name) AS view
      FROM embed.pipeline o WHERE o.id = $1) t
WHERE p.id = $1 AND p.source <> t.source

-- set_source_name(int4, text): the source's current name
UPDATE embed.pipeline SET source_name = $2 WHERE id = $1

-- set_broken(int4, text): marks a pipeline broken: its source cannot be read
UPDATE embed.pipeline SET broken_reason = $2 WHERE id = $1

-- update_generation(int4, text[], text, text[], int4[]): current names and numbers of the generation's columns
UPDATE embed.generation SET columns = $2::name[], template = $3, watched_names = $4::name[], watched_attnums = $5::int2[]
WHERE id = $1

-- set_seen(int4, int8, int8, oid): records where the pipeline lives now
UPDATE embed.pipeline SET system_identifier = $2, database_oid = $3::oid, source_oid = $4 WHERE id = $1

-- reader_matches_source(text, oid, text): whether a reader still runs as the source's owner, and the table has row security
-- like the source
SELECT p.prosecdef AND p.proowner = c.relowner AND coalesce(g.relrowsecurity = c.relrowsecurity, true)
FROM pg_catalog.pg_proc p, pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class g ON g.oid = pg_catalog.to_regclass($3)
WHERE p.oid = pg_catalog.to_regprocedure($1) AND c.oid = $2

-- altered_triggers(): triggers on our own tables whose mode is wrong: pg_restore --disable-triggers enables all of them alike
SELECT t.tgname::text AS name, pg_catalog.format('%I.%I', n.nspname, c.relname) AS "table", w.mode
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('embed', 'embed_store')
JOIN (VALUES ('skip_replicated', 'R', 'REPLICA'), ('bind_restored', 'A', 'ALWAYS'), ('wake', 'A', 'ALWAYS'), ('count_insert', 'A', 'ALWAYS'),
             ('count_delete', 'A', 'ALWAYS'), ('truncated', 'A', 'ALWAYS'), ('recount', 'A', 'ALWAYS'),
             ('reject_erased_text', 'A', 'ALWAYS')) w (name, enabled, mode) ON w.name = t.tgname AND w.enabled <> t.tgenabled

-- enable_trigger(): restores the mode it was created with
ALTER TABLE {table} ENABLE {mode} TRIGGER {name}

-- record_partitions(int4): partitions whose rows are removed when they are dropped; returns whether one of the earlier ones is
-- gone
UPDATE embed.pipeline p SET partitions = t.now
FROM (SELECT s.partitions AS before,
             (SELECT pg_catalog.array_agg(DISTINCT l.relid ORDER BY l.relid)
              FROM (SELECT s.source AS root UNION SELECT d.base FROM embed.dependency d WHERE d.pipeline = s.id AND d.names IS NOT NULL) b
              CROSS JOIN LATERAL embed.partition_tree(b.root) l (relid)
              WHERE l.relid <> b.root) AS now
      FROM embed.pipeline s WHERE s.id = $1) t
WHERE p.id = $1 AND t.before IS DISTINCT FROM t.now
RETURNING NOT coalesce(t.before <@ coalesce(t.now, '{}'), true) AS gone

-- streamed_partitions(int4): last known tables of a pipeline that is read from the WAL
SELECT w.partitions::pg_catalog.int8[] AS partitions FROM embed.wal w WHERE w.pipeline = $1 AND w.state = 'streaming'

-- current_partitions(oid): the source and its partitions
SELECT ARRAY(SELECT t.relid::pg_catalog.int8 FROM embed.partition_tree($1) t (relid) ORDER BY t.relid) AS partitions

-- set_streamed_partitions(int4, int8[]): records the tables that are read
UPDATE embed.wal SET partitions = $2::pg_catalog.oid[] WHERE pipeline = $1

-- capture_body(): logs the keys of rows whose watched columns changed; compares bytes, so case counts in json and citext too
DECLARE
    old_key pg_catalog.jsonb;
    new_key pg_catalog.jsonb;
    known pg_catalog.bool = false;
    wake pg_catalog.bool;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO embed.change_log (pipeline, scope) VALUES ({pipeline}, 'document');
        RETURN NULL;
    END IF;
    -- Whatever can fail runs in its own block, which writes nothing and so takes no transaction id. If the table was altered
    -- and this function was not, the owner's write succeeds and everything is checked again; if the lock table is full, no
    -- worker is woken.
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
            INSERT INTO embed.change_log (pipeline, scope) VALUES ({pipeline}, 'source');
            RETURN NULL;
        END IF;
    END;
    IF old_key IS NOT NULL THEN
        INSERT INTO embed.change_log (pipeline, key, wake) VALUES ({pipeline}, old_key, wake);
    END IF;
    IF new_key IS NOT NULL THEN
        INSERT INTO embed.change_log (pipeline, key, wake) VALUES ({pipeline}, new_key, wake);
    END IF;
    RETURN NULL;
END

-- sleeper_probe(): whether a worker is asleep, see extension/sql/31_queue/2_functions.sql; one waking row is enough
        IF NOT pg_catalog.pg_try_advisory_xact_lock_shared({lock_sleeper}, 0)
           AND coalesce(pg_catalog.current_setting('evergreen.wakes', true), '') = '' THEN
            wake = true;
            PERFORM pg_catalog.set_config('evergreen.wakes', 'on', true);
        END IF;

-- can_prepare(): whether this server allows prepared transactions
SELECT pg_catalog.current_setting('max_prepared_transactions') <> '0'

-- capture_noop_body(): for a source without its key: the user's writes succeed
BEGIN
    RETURN NULL;
END

-- create_trigger(): {event}, {level} and {condition}: see _ROW_TRIGGERS in triggers.py
CREATE TRIGGER {trigger} AFTER {event} ON {table} FOR EACH {level} {condition} EXECUTE FUNCTION {function}()

-- alter_table(): with actions as below
ALTER TABLE {table} {actions}

-- always_enabled(): fires under session_replication_role = replica as well
ENABLE ALWAYS TRIGGER {trigger}

-- drop_trigger(): drops the trigger from this table
DROP TRIGGER IF EXISTS {trigger} ON {table}

-- our_triggers(int4): triggers that call a capture function of a pipeline, on any table
SELECT c.oid::bigint AS table_oid,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS table_name,
       t.tgname::text AS trigger, t.tgenabled::text AS enabled, t.tgparentid <> 0 AS inherited
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid AND f.proname ~ ('^capture_' || $1 || '(_[0-9]+)?$')
JOIN pg_catalog.pg_namespace h ON h.oid = f.pronamespace AND h.nspname = 'embed_store'
WHERE NOT t.tgisinternal

-- leftover_triggers(oid): triggers on a table and its partitions that belong to no pipeline, as after a restore without the
-- catalog
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS table_name, t.tgname::text AS trigger
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid AND f.proname ~ '^capture_[0-9]+(_[0-9]+)?$'
JOIN pg_catalog.pg_namespace h ON h.oid = f.pronamespace AND h.nspname = 'embed_store'
WHERE (t.tgrelid = $1 OR t.tgrelid IN (SELECT l.relid FROM embed.partition_tree($1) l (relid)))
  AND NOT t.tgisinternal AND t.tgparentid = 0
  AND NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id::text = pg_catalog.split_part(f.proname, '_', 2))

-- has_pages(oid): whether the table may have rows
SELECT pg_catalog.pg_relation_size($1) > 0

-- partition_tree(oid): the source and all its partitions; without partitions, the source alone
SELECT c.oid::bigint AS table_oid,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS table_name
FROM embed.partition_tree($1) t (relid)
JOIN pg_catalog.pg_class c ON c.oid = t.relid AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace

-- has_lost_documents(int4, int4): documents whose chunks are missing
SELECT embed.documents_without_vectors($1, $2)

-- drop_column(): drops a column from a table that is no longer read
ALTER TABLE {table} DROP COLUMN {column}


-- insert_dependency(int4, int4, oid, text, text[], int4[], text[], int4[], int4, text[], int4[], bool, text[], int4[]): a link of a table
-- under a view
INSERT INTO embed.dependency (pipeline, part, base, base_name, names, attnums, view_names, view_attnums, via_part, via_names,
                              via_attnums, is_key, watched_names, watched_attnums)
VALUES ($1, $2, $3, $4, $5::name[], $6::int2[], $7::name[], $8::int2[], $9, $10::name[], $11::int2[], $12, $13::name[], $14::int2[])

-- update_dependency(int4, oid, text, text[], int4[], text[], int4[], int4, text[], int4[], bool, text[], int4[]): what a link is now
UPDATE embed.dependency
SET base = $2, base_name = $3, names = $4::name[], attnums = $5::int2[], view_names = $6::name[], view_attnums = $7::int2[],
    via_part = $8, via_names = $9::name[], via_attnums = $10::int2[], is_key = $11, watched_names = $12::name[],
    watched_attnums = $13::int2[]
WHERE id = $1
  AND (base, base_name, names, attnums, view_names, view_attnums, via_part, via_names, via_attnums, is_key, watched_names, watched_attnums)
      IS DISTINCT FROM ($2, $3, $4::name[], $5::int2[], $6::name[], $7::int2[], $8, $9::name[], $10::int2[], $11, $12::name[], $13::int2[])

-- delete_dependency(int4): the view does not read the table any more
DELETE FROM embed.dependency WHERE id = $1

-- delete_dependencies(int4): all of a pipeline
DELETE FROM embed.dependency WHERE pipeline = $1

-- set_definition(int4, text): records the queries that the links are for
UPDATE embed.pipeline SET definition = $2 WHERE id = $1

-- capture_links_body(): logs the links of rows of a table under a view; see capture_body
DECLARE
    {declared}
    known pg_catalog.bool = false;
    wake pg_catalog.bool;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO embed.change_log (pipeline, scope) VALUES ({pipeline}, 'source');
        RETURN NULL;
    END IF;
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            IF NOT pg_catalog.record_image_ne(ROW({old_watched}), ROW({new_watched})) THEN
                RETURN NULL;
            END IF;
            {moved}
        END IF;
        IF TG_OP = 'DELETE' THEN
            {removed}
        ELSE
            {written}
        END IF;
        known = true;{probe}
    EXCEPTION WHEN OTHERS THEN
        IF NOT known THEN
            INSERT INTO embed.change_log (pipeline, scope) VALUES ({pipeline}, 'source');
            RETURN NULL;
        END IF;
    END;
    {logged}
    RETURN NULL;
END

-- log_link_body(): one side of one link
    IF {value} IS NOT NULL THEN
        INSERT INTO embed.change_log (pipeline, dependency, {column}, wake) VALUES ({pipeline}, {dependency}, {value}, wake);
    END IF;

-- moved_link_body(): the row led elsewhere before
            IF pg_catalog.record_image_ne(ROW({old}), ROW({new})) THEN
                {value} = {document};
            END IF;
