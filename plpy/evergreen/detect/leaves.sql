-- of(int4): the tables of a pipeline that is read, as they were looked at last
SELECT w.leaves::pg_catalog.int8[] AS leaves FROM embed.wal w WHERE w.pipeline = $1 AND w.state = 'reading'

-- now(oid): the source and its partitions
SELECT ARRAY(SELECT c.oid::pg_catalog.int8
             FROM (SELECT t.relid FROM pg_catalog.pg_partition_tree($1) t UNION SELECT $1) t (relid)
             JOIN pg_catalog.pg_class c ON c.oid = t.relid ORDER BY c.oid) AS leaves

-- set(int4, int8[]): looked at
UPDATE embed.wal SET leaves = $2::pg_catalog.oid[] WHERE pipeline = $1
