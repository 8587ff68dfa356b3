-- pg_partition_tree() locks each partition, and so waits while one of them is altered or dropped.
CREATE FUNCTION embed.partition_tree(source oid) RETURNS SETOF oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    WITH RECURSIVE tree AS (
        SELECT source AS relid
        UNION
        SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.relid AND NOT i.inhdetachpending
        JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition
    )
    SELECT t.relid FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.relid
$sql$;
COMMENT ON FUNCTION embed.partition_tree(oid) IS 'internal: a table and all of its partitions, without a lock on any';
