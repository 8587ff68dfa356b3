-- The OID keeps the slots of databases apart, which share one list; the name survives renaming the database.
CREATE FUNCTION embed.slot_name() RETURNS name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT ('evergreen_' || d.oid)::name FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
$sql$;
COMMENT ON FUNCTION embed.slot_name() IS 'internal: the replication slot of this database';

-- Called by a view for roles that have no access to this schema.
CREATE FUNCTION embed.slot_lag() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery()
                THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), s.restart_lsn)::bigint END
    FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = embed.slot_name()
$sql$;
COMMENT ON FUNCTION embed.slot_lag() IS 'internal: bytes of WAL that the replication slot of this database retains';

-- UPDATE and DELETE fail on a published table whose replica identity does not identify the row, and the reader misses columns
-- that it does not contain. So either all tables of the source identify their rows by key, or triggers capture.
CREATE FUNCTION embed.replication_obstacle(source regclass, key int2[]) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    WITH leaf AS (
        SELECT c.oid, c.oid::pg_catalog.regclass AS name, c.relpersistence, c.relreplident
        FROM embed.partition_tree(source) t (relid)
        JOIN pg_catalog.pg_class c ON c.oid = t.relid AND c.relkind = 'r'
    ), key_column AS (
        SELECT a.attname, a.attgenerated FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = source AND a.attnum = ANY (key) AND NOT a.attisdropped
    ), told AS (
        SELECT l.*, (SELECT i.indkey::int2[] FROM pg_catalog.pg_index i
                     WHERE i.indrelid = l.oid AND i.indisvalid
                       AND CASE l.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END) AS identity
        FROM leaf l
    )
    SELECT CASE
        WHEN EXISTS (SELECT FROM key_column k WHERE k.attgenerated <> '')
            THEN pg_catalog.format('a column of the primary key of table %s is generated, and those are not replicated', source)
        ELSE (SELECT CASE
            WHEN t.relpersistence <> 'p' THEN pg_catalog.format('table %s is not logged', t.name)
            WHEN t.relreplident = 'n' THEN pg_catalog.format('table %s has REPLICA IDENTITY NOTHING', t.name)
            WHEN t.identity IS NULL THEN pg_catalog.format('table %s has no replica identity', t.name)
            ELSE pg_catalog.format('the replica identity of table %s does not tell the primary key', t.name) END
            FROM told t
            WHERE t.relpersistence <> 'p'
               OR (t.relreplident <> 'f' AND (t.identity IS NULL OR EXISTS (
                   SELECT FROM key_column k WHERE NOT EXISTS (
                       SELECT FROM pg_catalog.pg_attribute a
                       WHERE a.attrelid = t.oid AND a.attname = k.attname AND a.attnum = ANY (t.identity)))))
            LIMIT 1)
        END
$sql$;
COMMENT ON FUNCTION embed.replication_obstacle(regclass, int2[]) IS
    'internal: why changes of a table cannot be read from the WAL; NULL if they can';

-- Runs in the transaction of the DDL after which UPDATE and DELETE would fail: triggers take over, at once or when a worker
-- runs.
CREATE FUNCTION embed.unpublish_source(pipeline int) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $plpgsql$
DECLARE
    published record;
BEGIN
    SELECT p.source, embed.replication_obstacle(p.source, p.key_attnums) AS why INTO published
    FROM embed.pipeline p
    JOIN pg_catalog.pg_publication_rel r ON r.prrelid = p.source
    JOIN pg_catalog.pg_publication u ON u.oid = r.prpubid AND u.pubname = 'evergreen_cdc'
    WHERE p.id = unpublish_source.pipeline;
    IF published.why IS NULL THEN
        RETURN;
    END IF;
    EXECUTE pg_catalog.format('ALTER PUBLICATION evergreen_cdc DROP TABLE ONLY %s', published.source::pg_catalog.regclass);
    INSERT INTO embed.wal AS w (pipeline, state, triggers, note)
    SELECT p.id, 'unsupported', true, published.why FROM embed.pipeline p WHERE p.source = published.source AND p.capture = 'cdc'
    ON CONFLICT ON CONSTRAINT wal_pkey DO UPDATE SET state = 'unsupported', triggers = true, recheck = true, note = EXCLUDED.note;
END
$plpgsql$;
COMMENT ON FUNCTION embed.unpublish_source(int) IS
    'internal: removes a source from the publication if the user''s UPDATE and DELETE would fail because of it';

-- The rows of these tables describe this database. A publication FOR ALL TABLES on another server with the extension includes
-- its tables: applied here, their rows would collide with ours (built-in models: unique violation, and the copy never ends) or
-- overwrite them. So anything that a subscription's worker writes to our tables is skipped.
-- ENABLE REPLICA: ordinary sessions do not fire it. A restore under session_replication_role = replica does, but has no
-- replication origin. Depth 0: rows that our triggers on a source write for the worker are kept.
CREATE FUNCTION embed.skip_replicated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    IF pg_catalog.pg_replication_origin_session_is_setup() THEN
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END
$plpgsql$;
COMMENT ON FUNCTION embed.skip_replicated() IS
    'internal: trigger, keeps rows of another server''s evergreen out of the tables of this one';

-- Generation tables get the trigger only if there is a subscription, because it makes COPY insert rows one by one.
CREATE FUNCTION embed.guard_generation(generation int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    ours constant regclass = pg_catalog.to_regclass('embed_store.g' || generation);
BEGIN
    IF ours IS NULL
       OR NOT EXISTS (SELECT FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
                      WHERE d.datname = pg_catalog.current_database())
       OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = ours AND t.tgname = 'skip_replicated') THEN
        RETURN;
    END IF;
    EXECUTE pg_catalog.format(
        'CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW'
        ' WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated()', ours);
    EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE REPLICA TRIGGER skip_replicated', ours);
END
$plpgsql$;
COMMENT ON FUNCTION embed.guard_generation(int) IS 'internal: keeps a subscription''s rows out of a generation table';

-- As embed.bind_restored() does for a source. Only tables that the view reads are looked for among these.
CREATE FUNCTION embed.bind_restored_table() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    NEW.base = coalesce(pg_catalog.to_regclass(NEW.base_name)::oid, 0);
    RETURN NEW;
END
$plpgsql$;
COMMENT ON FUNCTION embed.bind_restored_table() IS 'internal: trigger, binds a restored link of a view to the table of its name';

CREATE TRIGGER bind_restored BEFORE INSERT ON embed.dependency FOR EACH ROW EXECUTE FUNCTION embed.bind_restored_table();
ALTER TABLE embed.dependency ENABLE ALWAYS TRIGGER bind_restored;

-- A table is named as in the view's schema: without its schema if it is there. Several links of a table are an array.
CREATE FUNCTION embed.depends(pipeline int) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    RETURN (
        WITH named AS (
            SELECT d.*, CASE WHEN r.relnamespace = v.relnamespace THEN r.relname::text
                             ELSE concat(n.nspname, '.', r.relname) END AS table_name
            FROM embed.dependency d
            JOIN embed.pipeline p ON p.id = d.pipeline
            JOIN pg_class r ON r.oid = d.base
            JOIN pg_namespace n ON n.oid = r.relnamespace
            LEFT JOIN pg_class v ON v.oid = p.source
            WHERE d.pipeline = depends.pipeline
        ), links AS (
            SELECT d.table_name, d.id, d.part,
                   (SELECT jsonb_object_agg(u.name, CASE WHEN via.table_name IS NULL THEN u.target ELSE concat(via.table_name, '.', u.target) END)
                    FROM unnest(d.names::text[], coalesce(d.view_names, d.via_names)::text[]) u (name, target)) AS link
            FROM named d
            LEFT JOIN LATERAL (SELECT o.table_name FROM named o WHERE o.part = d.via_part LIMIT 1) via ON true
        )
        SELECT jsonb_object_agg(t.table_name, t.links)
        FROM (SELECT l.table_name, CASE WHEN count(*) > 1 THEN jsonb_agg(l.link ORDER BY l.id)
                                        ELSE (array_agg(l.link))[1] END AS links
              FROM links l GROUP BY l.table_name) t);
END
$plpgsql$;
COMMENT ON FUNCTION embed.depends(int) IS 'internal: what embed_create() was told of the tables under a view, with their current names';
