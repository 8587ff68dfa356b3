-- Called by the views only: PUBLIC has no USAGE on this schema. Plain SQL, so that current_user is the asking role.
CREATE FUNCTION embed.may_see(source regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE')
        OR coalesce(pg_catalog.has_table_privilege(current_user, c.oid, 'SELECT'), false)
        OR coalesce(pg_catalog.has_any_column_privilege(current_user, c.oid, 'SELECT'), false)
        OR coalesce(pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE'), false)
    FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_class c ON c.oid = source
$sql$;
COMMENT ON FUNCTION embed.may_see(regclass) IS 'internal: may the asking role see that a pipeline on this table exists';

CREATE FUNCTION embed.may_own(source regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE')
        OR coalesce((SELECT pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE')
                     FROM pg_catalog.pg_class c WHERE c.oid = source), false)
$sql$;
COMMENT ON FUNCTION embed.may_own(regclass) IS 'internal: may the asking role administer a pipeline on this table';

-- reltuples where the table was analysed or is large; a count where that costs next to nothing.
CREATE FUNCTION embed.estimate_rows(source regclass) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    leaf record;
    total bigint = 0;
    counted bigint;
BEGIN
    FOR leaf IN
        SELECT c.oid, c.reltuples, pg_catalog.pg_relation_size(c.oid) AS bytes
        FROM (SELECT t.relid FROM pg_catalog.pg_partition_tree(source) t UNION SELECT source) t
        JOIN pg_catalog.pg_class c ON c.oid = t.relid AND c.relkind = 'r'
    LOOP
        IF leaf.bytes < 4 * 1024 * 1024 OR (leaf.reltuples < 0 AND leaf.bytes < 64 * 1024 * 1024) THEN
            BEGIN
                EXECUTE pg_catalog.format('SELECT count(*) FROM ONLY %s', leaf.oid::regclass) INTO counted;
            EXCEPTION WHEN lock_not_available OR undefined_table THEN
                counted = greatest(leaf.reltuples, 0);
            END;
            total = total + counted;
        ELSE
            total = total + CASE WHEN leaf.reltuples > 0 THEN leaf.reltuples ELSE leaf.bytes / 400 END;
        END IF;
    END LOOP;
    RETURN total;
END
$plpgsql$;
COMMENT ON FUNCTION embed.estimate_rows(regclass) IS 'internal: rows of a table, counted below 4 MB, or below 64 MB if never analysed, else the planner''s estimate';
