-- An UPDATE or DELETE fails on a table of a publication that does not tell which row is written; and what the reader is
-- not told of, it misses. So either all of the source's tables do, or triggers capture.
CREATE FUNCTION embed.unfit(source regclass, key int2[]) RETURNS text
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
COMMENT ON FUNCTION embed.unfit(regclass, int2[]) IS 'internal: why changes of a table cannot be read from the WAL; NULL where they can';

-- In the transaction of the DDL after which UPDATE and DELETE would fail: triggers take over, at once or by a worker.
CREATE FUNCTION embed.leave_publication(pipeline int) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $plpgsql$
DECLARE
    published record;
BEGIN
    SELECT p.source, embed.unfit(p.source, p.key_attnums) AS why INTO published
    FROM embed.pipeline p
    JOIN pg_catalog.pg_publication_rel r ON r.prrelid = p.source
    JOIN pg_catalog.pg_publication u ON u.oid = r.prpubid AND u.pubname = 'evergreen_cdc'
    WHERE p.id = leave_publication.pipeline;
    IF published.why IS NULL THEN
        RETURN;
    END IF;
    EXECUTE pg_catalog.format('ALTER PUBLICATION evergreen_cdc DROP TABLE ONLY %s', published.source);
    INSERT INTO embed.wal AS w (pipeline, state, triggers, note)
    SELECT p.id, 'unable', true, published.why FROM embed.pipeline p WHERE p.source = published.source AND p.capture = 'cdc'
    ON CONFLICT ON CONSTRAINT wal_pkey DO UPDATE SET state = 'unable', triggers = true, checks = true, note = EXCLUDED.note;
END
$plpgsql$;
COMMENT ON FUNCTION embed.leave_publication(int) IS
    'internal: takes a source out of the publication where the user''s UPDATE and DELETE would fail because of it';
