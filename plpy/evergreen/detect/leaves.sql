-- of(int4): the tables of a pipeline that is read, as they were looked at last
SELECT w.leaves::pg_catalog.int8[] AS leaves FROM embed.wal w WHERE w.pipeline = $1 AND w.state = 'reading'

-- now(oid): the source and its partitions
SELECT ARRAY(SELECT t.relid::pg_catalog.int8 FROM embed.partition_tree($1) t (relid) ORDER BY t.relid) AS leaves

-- set(int4, int8[]): looked at
UPDATE embed.wal SET leaves = $2::pg_catalog.oid[] WHERE pipeline = $1
