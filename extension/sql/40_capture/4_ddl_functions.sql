-- Regenerates the triggers and functions of a table when its owner changes the table. Runs in the user's transaction and must
-- never fail it: every error becomes a warning, and the worker checks again before it reads a row.
CREATE FUNCTION embed.refresh(pipeline int, dropped boolean = false, attnum int = NULL) RETURNS void
LANGUAGE plpython3u VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '50ms'
SET standard_conforming_strings = on
SET quote_all_identifiers = off
SET array_nulls = on
SET transform_null_equals = off
AS $python$
@boot@
from evergreen.capture import ddl_sync
ddl_sync.refresh(pipeline, dropped, attnum)
$python$;
COMMENT ON FUNCTION embed.refresh(int, boolean, int) IS
    'internal: makes a pipeline''s triggers and functions match its source again';

-- ALTER TYPE ... RENAME VALUE and ADD or DROP ATTRIBUTE change the text of values without writing them; so does ALTER TABLE for
-- columns of that table's row type. A lone command that cannot change any text is recognized by its wording.
CREATE FUNCTION embed.with_altered_types() RETURNS TABLE (pipeline int)
LANGUAGE plpgsql STABLE  -- not sql, which plans it for each call
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE watched (pipeline, type) AS (
        SELECT p.id, a.atttypid
        FROM embed.pipeline p JOIN embed.generation g ON g.pipeline = p.id
        JOIN pg_attribute a ON a.attrelid = p.source AND a.attnum = ANY (g.watched_attnums || p.key_attnums)
        WHERE a.atttypid >= 16384
        UNION
        SELECT d.pipeline, a.atttypid
        FROM embed.dependency d JOIN pg_attribute a ON a.attrelid = d.base AND a.attnum = ANY (d.watched_attnums || d.attnums)
        WHERE a.atttypid >= 16384
        UNION
        SELECT w.pipeline, x.oid
        FROM watched w JOIN pg_type t ON t.oid = w.type
        CROSS JOIN LATERAL (
            SELECT t.typelem UNION ALL SELECT t.typbasetype
            UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
            UNION ALL SELECT a.atttypid FROM pg_attribute a
                      WHERE a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
        ) x (oid)
        WHERE x.oid >= 16384
    )
    SELECT DISTINCT w.pipeline
    FROM pg_event_trigger_ddl_commands() c
    JOIN pg_type t ON (c.classid = 'pg_type'::regclass AND t.oid = c.objid)
                   OR (c.classid = 'pg_class'::regclass AND t.typrelid = c.objid)
    JOIN watched w ON w.type = t.oid
    WHERE c.command_tag IN ('ALTER TYPE', 'ALTER TABLE')
      AND (current_query() !~* '^[[:space:]]*alter[[:space:]]+type[[:space:]][^;]*[[:space:]]'
                              '(add[[:space:]]+value|rename[[:space:]]+to|owner[[:space:]]+to|set[[:space:]]+schema)'
                              '[[:space:]][^;]*;?[[:space:]]*$'
           OR current_query() ~* '(rename[[:space:]]+value|attribute)[[:space:]]');
END
$plpgsql$;
COMMENT ON FUNCTION embed.with_altered_types() IS
    'internal: pipelines whose text or keys this DDL command may have changed, through a type they use';

CREATE FUNCTION embed.altered_types() RETURNS oid[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    found oid[];
    more oid[];
BEGIN
    more = ARRAY(
        SELECT c.objid FROM pg_catalog.pg_event_trigger_ddl_commands() c
        WHERE c.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
        UNION ALL
        SELECT t.oid FROM pg_catalog.pg_event_trigger_ddl_commands() c JOIN pg_catalog.pg_type t ON t.typnamespace = c.objid
        WHERE c.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
        UNION ALL
        SELECT d.objid FROM pg_catalog.pg_event_trigger_ddl_commands() c
        JOIN pg_catalog.pg_depend d ON d.refclassid = c.classid AND d.refobjid = c.objid AND d.deptype = 'e'
        WHERE c.classid = 'pg_catalog.pg_extension'::pg_catalog.regclass
          AND d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass);
    WHILE more <> '{}' LOOP
        found = found || more;
        more = ARRAY(
            SELECT x.type FROM (
                SELECT t.oid FROM pg_catalog.pg_type t WHERE t.typbasetype = ANY (more) OR t.typelem = ANY (more)
                UNION
                SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngsubtype = ANY (more)
                UNION
                SELECT r.rngmultitypid FROM pg_catalog.pg_range r WHERE r.rngtypid = ANY (more)
                UNION
                SELECT c.reltype FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
                WHERE a.atttypid = ANY (more) AND NOT a.attisdropped AND c.reltype <> 0) x (type)
            WHERE x.type <> ALL (found));
    END LOOP;
    RETURN found;
END
$plpgsql$;
COMMENT ON FUNCTION embed.altered_types() IS
    'internal: in an event trigger, the types that were renamed or moved to another schema, and all types built from them';

CREATE FUNCTION embed.follow_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    touched record;
    altered oid[];
BEGIN
    IF TG_TAG = 'REFRESH MATERIALIZED VIEW' THEN
        INSERT INTO embed.change_log (pipeline, scope)
        SELECT DISTINCT p.id, 'source'
        FROM pg_catalog.pg_event_trigger_ddl_commands() c
        JOIN embed.pipeline p ON p.definition IS NOT NULL AND p.capture <> 'manual'
        JOIN LATERAL embed.view_relations(p.source) v ON v.relation = c.objid
        WHERE c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass;
        RETURN;
    END IF;
    -- Most commands concern no source: new tables, unless they are partitions, temporary tables, and what we create.
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_event_trigger_ddl_commands() c
        WHERE CASE WHEN c.object_type = 'extension' THEN c.object_identity <> 'evergreen'
                   WHEN c.schema_name = 'pg_temp' THEN false
                   WHEN c.schema_name = 'embed_store' THEN EXISTS (SELECT FROM embed.pipeline p WHERE p.source = c.objid)
                   WHEN TG_TAG IN ('CREATE TABLE', 'CREATE TABLE AS')
                       THEN EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.objid)
                   ELSE true END) THEN
        RETURN;
    END IF;
    altered = embed.altered_types();
    PERFORM embed.record_names();
    FOR touched IN
        WITH RECURSIVE command AS (
            SELECT c.classid, c.objid, c.objsubid FROM pg_catalog.pg_event_trigger_ddl_commands() c
        ), below AS (
            SELECT c.objid AS relation, c.objsubid FROM command c
            WHERE c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
            UNION
            SELECT i.inhrelid, 0 FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.relation
        ), read (pipeline, relation, is_source) AS (  -- what pipelines read: sources, and what is below those that are views
            SELECT p.id, p.source, true FROM embed.pipeline p
            UNION ALL
            SELECT p.id, v.relation, false FROM embed.pipeline p CROSS JOIN LATERAL embed.view_relations(p.source) v
            WHERE p.definition IS NOT NULL AND v.relation <> p.source
        )
        SELECT p.pipeline AS id, max(nullif(b.objsubid, 0)) FILTER (WHERE p.is_source) AS attnum
        FROM read p
        JOIN pg_catalog.pg_class r ON r.oid = p.relation
        LEFT JOIN below b ON b.relation = p.relation
        WHERE b.relation IS NOT NULL
           OR EXISTS (SELECT FROM command c, pg_catalog.pg_partition_ancestors(c.objid) a
                      WHERE c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND a.relid = p.relation)
           OR EXISTS (SELECT FROM command c
                      WHERE c.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND c.objid = r.relnamespace)
           OR r.reloftype = ANY (altered)
           OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
                      WHERE a.attrelid = p.relation AND NOT a.attisdropped AND a.atttypid = ANY (altered))
        GROUP BY p.pipeline
    LOOP
        BEGIN
            PERFORM embed.unpublish_source(touched.id);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'evergreen could not take the source of pipeline % out of its publication: %', touched.id, SQLERRM
                USING HINT = 'UPDATE and DELETE may fail until ALTER PUBLICATION evergreen_cdc DROP TABLE ... is done.';
        END;
        BEGIN
            PERFORM embed.refresh(touched.id, false, touched.attnum::int);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'evergreen could not follow this change of pipeline %: %', touched.id, SQLERRM
                USING HINT = 'The next embed_drain() or embed_work() tries again.';
        END;
    END LOOP;
    IF TG_TAG NOT IN ('ALTER TYPE', 'ALTER TABLE') THEN
        RETURN;
    END IF;
    FOR touched IN SELECT t.pipeline AS id FROM embed.with_altered_types() t LOOP
        INSERT INTO embed.change_log (pipeline, scope) VALUES (touched.id, 'source');
        BEGIN
            PERFORM embed.refresh(touched.id);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'evergreen could not follow this change of a type of pipeline %: %', touched.id, SQLERRM
                USING HINT = 'The next embed_drain() or embed_work() tries again.';
        END;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'evergreen could not look at this DDL command: %', SQLERRM;
END
$plpgsql$;
COMMENT ON FUNCTION embed.follow_ddl() IS 'internal: event trigger, follows ALTER TABLE and similar commands on sources, and REFRESH';

CREATE FUNCTION embed.follow_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    touched int;
BEGIN
    FOR touched IN
        SELECT DISTINCT p.id
        FROM pg_catalog.pg_event_trigger_dropped_objects() d, embed.pipeline p
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0 AND d.objid = p.source
    LOOP
        BEGIN
            PERFORM embed.refresh(touched, true);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'evergreen could not follow the drop of the source of pipeline %: %', touched, SQLERRM;
        END;
    END LOOP;
    -- Dropping an index may remove a replica identity.
    FOR touched IN
        SELECT p.id
        FROM embed.pipeline p
        JOIN pg_catalog.pg_publication_rel r ON r.prrelid = p.source
        JOIN pg_catalog.pg_publication u ON u.oid = r.prpubid AND u.pubname = 'evergreen_cdc'
        WHERE EXISTS (SELECT FROM pg_catalog.pg_event_trigger_dropped_objects() d
                      WHERE d.object_type IN ('index', 'table constraint') AND NOT d.is_temporary)
          AND embed.replication_obstacle(p.source, p.key_attnums) IS NOT NULL
    LOOP
        BEGIN
            PERFORM embed.unpublish_source(touched);
            PERFORM embed.refresh(touched, false);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'evergreen could not take the source of pipeline % out of its publication: %', touched, SQLERRM
                USING HINT = 'UPDATE and DELETE may fail until ALTER PUBLICATION evergreen_cdc DROP TABLE ... is done.';
        END;
    END LOOP;
    -- A dropped partition takes its rows with it, and no row trigger fires. Other tables do not concern us.
    INSERT INTO embed.change_log (pipeline, scope)
    SELECT DISTINCT p.id, CASE WHEN p.definition IS NULL THEN 'document' ELSE 'source' END
    FROM pg_catalog.pg_event_trigger_dropped_objects() d
    JOIN embed.pipeline p ON d.objid = ANY (p.partitions)
    JOIN pg_catalog.pg_class r ON r.oid = p.source
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0;
EXCEPTION
    WHEN undefined_table OR invalid_schema_name THEN
        NULL;  -- DROP EXTENSION evergreen: this command drops the catalog, too
    WHEN OTHERS THEN
        RAISE WARNING 'evergreen could not look at this DROP command: %', SQLERRM;
END
$plpgsql$;
COMMENT ON FUNCTION embed.follow_drop() IS 'internal: event trigger, follows DROP of a source or of one of its partitions';

-- ALTER COLUMN ... TYPE ... USING and (PostgreSQL 17) SET EXPRESSION may change every value, and no row trigger fires.
CREATE FUNCTION embed.follow_rewrite() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    -- Bits of the reason: 1 (persistence) and 8 (access method) change no value, 2 fills in a default or an expression.
    reason constant int = pg_catalog.pg_event_trigger_table_rewrite_reason();
    rewritten constant oid = pg_catalog.pg_event_trigger_table_rewrite_oid();
BEGIN
    INSERT INTO embed.change_log (pipeline, scope)
    SELECT DISTINCT d.pipeline, 'source' FROM embed.dependency d
    WHERE d.names IS NOT NULL
      AND (d.base = rewritten OR d.base IN (SELECT a.relid FROM pg_catalog.pg_partition_ancestors(rewritten) a))
      AND (reason & ~(1 | 2 | 8) <> 0
           OR (reason & 2 <> 0 AND EXISTS (
               SELECT FROM pg_catalog.pg_attribute a
               WHERE a.attnum = ANY (d.watched_attnums || d.attnums) AND a.attrelid = d.base AND a.attgenerated <> '')));
    INSERT INTO embed.change_log (pipeline, scope)
    SELECT p.id, 'source' FROM embed.pipeline p
    WHERE (p.source = rewritten OR p.source IN (SELECT a.relid FROM pg_catalog.pg_partition_ancestors(rewritten) a))
      AND (reason & ~(1 | 2 | 8) <> 0
           OR (reason & 2 <> 0 AND EXISTS (
               SELECT FROM embed.generation g
               JOIN pg_catalog.pg_attribute a ON a.attnum = ANY (g.watched_attnums || p.key_attnums)
               WHERE g.pipeline = p.id AND a.attrelid = p.source AND a.attgenerated <> '')));
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'evergreen could not look at this rewrite of a table: %', SQLERRM
        USING HINT = 'SELECT embed_verify(''...'', repair => true) finds what it changed.';
END
$plpgsql$;
COMMENT ON FUNCTION embed.follow_rewrite() IS 'internal: event trigger, queues a check of all rows of a rewritten source';

CREATE FUNCTION embed.follow_subscription() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $plpgsql$
BEGIN
    PERFORM embed.guard_generation(g.id) FROM embed.generation g;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'evergreen could not keep the rows of this subscription out of its tables in embed_store: %', SQLERRM
        USING HINT = 'ALTER SUBSCRIPTION ... REFRESH PUBLICATION tries again.';
END
$plpgsql$;
COMMENT ON FUNCTION embed.follow_subscription() IS 'internal: event trigger, guards the generation tables of a subscriber';
