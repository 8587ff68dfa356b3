-- pipelines_of_source(oid): pipelines on a table
SELECT p.name FROM embed.pipeline p WHERE p.source = $1::pg_catalog.regclass ORDER BY p.id

-- nearest({vector}, int4): the chunks nearest to a vector; an index serves the ORDER BY
SELECT v.key::pg_catalog.text AS key, v.chunk_no, v.chunk, {score} AS score, v.is_stale
FROM {view} v
WHERE v.generation OPERATOR(pg_catalog.=) {generation} {condition}
ORDER BY {distance}
LIMIT $2

-- nearest_quantized({vector}, int4): the same with an index on quantized vectors: oversamples, then sorts by exact distance
SELECT v.key::pg_catalog.text AS key, v.chunk_no, v.chunk, {score} AS score, v.is_stale
FROM (SELECT v.key, v.chunk_no, v.chunk, v.embedding, v.is_stale FROM {view} v
      WHERE v.generation OPERATOR(pg_catalog.=) {generation} {condition}
      ORDER BY {rough} LIMIT $2 OPERATOR(pg_catalog.*) {more}) v
ORDER BY {distance}
LIMIT $2

-- nearest_exactly({vector}, int4): the same without an index, which would return hidden rows: OFFSET 0 prevents its use
SELECT v.key::pg_catalog.text AS key, v.chunk_no, v.chunk, {score} AS score, v.is_stale
FROM (SELECT v.key, v.chunk_no, v.chunk, v.is_stale, {distance} AS distance FROM {visible}
      WHERE v.generation OPERATOR(pg_catalog.=) {generation} {condition} OFFSET 0) v
ORDER BY v.distance
LIMIT $2

-- view_by_source(): chunks of the rows that the caller may see, row by row; OFFSET 0 preserves the join order
(SELECT c.* FROM {source} {row} CROSS JOIN LATERAL (SELECT w.* FROM {view} w WHERE {matches} OFFSET 0) c WHERE {where}) v

-- is_leakproof(oid[]): whether an index on keys of these types can be used before a policy is checked
SELECT coalesce(pg_catalog.bool_and(coalesce(p.proleakproof, false)), false)
FROM (SELECT CASE u.type WHEN 'pg_catalog.varchar'::pg_catalog.regtype THEN 'pg_catalog.text'::pg_catalog.regtype::oid
                  ELSE u.type END AS type
      FROM pg_catalog.unnest($1) u (type)) t
LEFT JOIN pg_catalog.pg_operator o ON o.oprname = '=' AND o.oprleft = t.type AND o.oprright = t.type
                                  AND o.oprnamespace = 'pg_catalog'::pg_catalog.regnamespace
LEFT JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode

-- own_view(oid): the view, if it is still ours
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1 AND c.relkind = 'v'
  AND c.relowner = (SELECT e.extowner FROM pg_catalog.pg_extension e WHERE e.extname = 'evergreen')

-- shows_another(): whether the view shows another generation; it is a constant in the view, so usually nothing is read
SELECT EXISTS (SELECT FROM {view} v WHERE v.generation OPERATOR(pg_catalog.<>) {generation}) AS another

-- look(oid, oid): the caller's role and the version of the view's definition, which each promotion replaces; no row if the caller
-- may no longer read the source, or if the transaction keeps a snapshot, in which a view is newer than what can be read of it
SELECT current_user::text AS role, pg_catalog.concat(r.xmin, r.ctid) AS version
FROM pg_catalog.pg_rewrite r
WHERE r.ev_class = $1 AND r.rulename = '_RETURN' AND pg_catalog.has_any_column_privilege($2, 'SELECT')
  AND pg_catalog.current_setting('transaction_isolation') LIKE 'read %'

-- snapshot_is_kept(): whether the transaction keeps its snapshot: REPEATABLE READ and above
SELECT pg_catalog.current_setting('transaction_isolation') NOT LIKE 'read %' AS kept

-- view_columns(oid): columns of a view, in order
SELECT a.attname::text AS name FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 ORDER BY a.attnum

-- state_at_call(int4, jsonb): time of the call, end of the WAL, and whether this transaction has changes and whether cursors run.
-- The WAL position excludes a page header, which may be ahead of it. own: this transaction's changes, which no other session
-- sees yet. sweeping: cursors run, or are about to.
SELECT pg_catalog.clock_timestamp()::pg_catalog.text AS now,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/18')::pg_catalog.int8 END AS wal,
       EXISTS (SELECT FROM embed.change_log c
               WHERE c.pipeline = $1 AND c.xid = pg_catalog.pg_current_xact_id_if_assigned()
                 AND ($2 IS NULL OR c.key IS NULL OR c.key = $2))
    OR EXISTS (SELECT FROM embed.generation g CROSS JOIN (VALUES (0), (1)) lanes (lane)
               JOIN embed.job j ON j.generation = g.id AND j.lane = lanes.lane AND j.lane IN (0, 1)
                AND j.xid = pg_catalog.pg_current_xact_id_if_assigned()
               WHERE g.pipeline = $1 AND g.state = 'active' AND ($2 IS NULL OR j.key = $2))
    OR EXISTS (SELECT FROM embed.wal w JOIN embed.pipeline p ON p.id = w.pipeline
               CROSS JOIN LATERAL embed.partition_tree(p.source) t (relid)
               JOIN pg_catalog.pg_locks l ON l.relation = t.relid AND l.pid = pg_catalog.pg_backend_pid() AND l.granted
                AND l.mode IN ('RowExclusiveLock', 'AccessExclusiveLock')
               WHERE w.pipeline = $1 AND NOT w.triggers
                 AND pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL) AS own,
       EXISTS (SELECT FROM embed.change_log c WHERE c.pipeline = $1 AND c.key IS NULL)
    OR EXISTS (SELECT FROM embed.generation g JOIN embed.backfill_cursor s ON s.generation = g.id
               WHERE g.pipeline = $1 AND g.state = 'active' AND s.running)
    OR EXISTS (SELECT FROM embed.link_cursor l WHERE l.pipeline = $1)
    OR EXISTS (SELECT FROM embed.wal w WHERE w.pipeline = $1 AND w.recheck) AS sweeping

-- state_of_change(int4, jsonb, timestamptz, bool, int8): state of a row or pipeline in one snapshot, in which a change is in the log, in a
-- job, or done.
-- $3: time of the call; changed_at of a job is never later than a change that is still pending. $5: position up to which the
-- WAL must have been read, if capture reads it. The log and the position of a transaction are committed together.
SELECT p.state <> 'active' OR p.broken_reason IS NOT NULL AS stopped,
       b.behind,
       b.behind OR embed.documents_without_vectors(p.id, g.id) > 0
    OR EXISTS (SELECT FROM embed.change_log c
               WHERE c.pipeline = p.id AND c.changed_at <= $3 AND ($2 IS NULL OR c.key IS NULL OR c.key = $2))
    OR CASE WHEN $2 IS NULL
            THEN EXISTS (SELECT FROM embed.job j WHERE j.generation = g.id AND (j.changed_at <= $3 OR ($4 AND j.lane = 1)))
            ELSE EXISTS (SELECT FROM embed.job j WHERE j.generation = g.id AND j.key = $2 AND j.changed_at <= $3) END AS waits,
       EXISTS (SELECT FROM embed.failure f
               WHERE f.generation = g.id AND ($2 IS NULL OR f.key = $2)
                 AND NOT EXISTS (SELECT FROM embed.job j WHERE j.generation = g.id AND j.key = f.key)
                 AND NOT EXISTS (SELECT FROM embed.change_log c WHERE c.pipeline = p.id AND c.key = f.key)) AS dead,
       EXISTS (SELECT FROM embed.backfill_cursor s WHERE s.generation = g.id AND s.running)
    OR EXISTS (SELECT FROM embed.link_cursor l WHERE l.pipeline = p.id AND ($2 IS NOT NULL OR l.changed_at <= $3)) AS swept,
       d.src_hash, coalesce(d.embedded_at > $3, false) AS embedded_since
FROM embed.pipeline p
JOIN embed.generation g ON g.pipeline = p.id AND g.state = 'active'
LEFT JOIN embed.document d ON d.generation = g.id AND d.key = $2
CROSS JOIN LATERAL (
    SELECT (p.capture = 'cdc' AND NOT EXISTS (SELECT FROM embed.wal w WHERE w.pipeline = p.id))
        OR EXISTS (SELECT FROM embed.wal w
                   WHERE w.pipeline = p.id AND NOT w.triggers AND w.state <> 'unsupported'
                     AND (w.state IN ('pending', 'published', 'catching_up')
                          OR coalesce((SELECT pg_catalog.pg_wal_lsn_diff(max(r.lsn), '0/0') FROM embed.wal_position r
                                       WHERE r.slot = embed.slot_name()), 0) < $5)) AS behind) b
WHERE p.id = $1

-- unfinished_keys(int4, timestamptz, bool): keys of all rows waiting for changes made by a given time, as in look, and of dead
-- letters
WITH g AS (SELECT g.id FROM embed.generation g WHERE g.pipeline = $1 AND g.state = 'active'),
waiting AS (
    SELECT c.key FROM embed.change_log c WHERE c.pipeline = $1 AND c.changed_at <= $2 AND c.key IS NOT NULL
    UNION
    SELECT j.key FROM g JOIN embed.job j ON j.generation = g.id WHERE j.changed_at <= $2 OR ($3 AND j.lane = 1)
)
SELECT w.key::pg_catalog.text AS key, false AS dead FROM waiting w
UNION ALL
SELECT f.key::pg_catalog.text, true FROM g JOIN embed.failure f ON f.generation = g.id
WHERE NOT EXISTS (SELECT FROM embed.job j WHERE j.generation = g.id AND j.key = f.key)
  AND NOT EXISTS (SELECT FROM embed.change_log c WHERE c.pipeline = $1 AND c.key = f.key)

-- await_wal(int8): asks the WAL reader to record that it has read this far; one waiting session may replace another's position
SELECT pg_catalog.setval('embed.wal_awaited', $1) FROM embed.wal_awaited a WHERE a.last_value < $1

-- operators_of_type(oid): comparisons of a type: those of its default operator class, and LIKE of a type that is text
WITH t AS (
    SELECT y.oid, y.typnamespace, y.typowner, y.typcategory,
           CASE WHEN y.oid = 'pg_catalog.varchar'::pg_catalog.regtype THEN 'pg_catalog.text'::pg_catalog.regtype
                WHEN y.typtype = 'e' THEN 'pg_catalog.anyenum'::pg_catalog.regtype
                WHEN y.typtype = 'r' THEN 'pg_catalog.anyrange'::pg_catalog.regtype
                WHEN y.typtype = 'c' THEN 'pg_catalog.record'::pg_catalog.regtype
                WHEN y.typcategory = 'A' AND y.typelem <> 0 THEN 'pg_catalog.anyarray'::pg_catalog.regtype
                ELSE y.oid END::pg_catalog.oid AS compared
    FROM pg_catalog.pg_type y WHERE y.oid = $1),
found AS (
    SELECT o.oid, o.oprname, o.oprnamespace, o.oprnegate, m.amname,
           CASE m.amname WHEN 'hash' THEN 'eq'
                ELSE (ARRAY['lt', 'lte', 'eq', 'gte', 'gt'])[a.amopstrategy] END AS name
    FROM t JOIN pg_catalog.pg_opclass c ON c.opcintype = t.compared AND c.opcdefault
    JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname IN ('btree', 'hash')
    JOIN pg_catalog.pg_amop a ON a.amopfamily = c.opcfamily AND a.amoppurpose = 's'
                             AND a.amoplefttype = c.opcintype AND a.amoprighttype = c.opcintype
    JOIN pg_catalog.pg_operator o ON o.oid = a.amopopr)
SELECT DISTINCT ON (x.name) x.name,
       pg_catalog.format('OPERATOR(%I.%s)', n.nspname, x.oprname) AS operator
FROM (SELECT f.name, f.amname, f.oprname, f.oprnamespace FROM found f
      UNION ALL
      SELECT 'ne', f.amname, o.oprname, o.oprnamespace
      FROM found f JOIN pg_catalog.pg_operator o ON o.oid = f.oprnegate WHERE f.name = 'eq'
      UNION ALL
      SELECT 'like', '', o.oprname, o.oprnamespace
      FROM t JOIN pg_catalog.pg_operator o ON o.oprname = '~~' AND o.oprnamespace = t.typnamespace AND o.oprowner = t.typowner
                                          AND o.oprleft = t.compared AND o.oprright IN (t.compared, 'pg_catalog.text'::pg_catalog.regtype)
      WHERE t.typcategory = 'S') x
JOIN pg_catalog.pg_namespace n ON n.oid = x.oprnamespace
ORDER BY x.name, x.amname

-- rows_of_keys(): whole rows of the source by the keys of chunks that were found, best first; $1: a JSON array of them
SELECT {alias} AS source_row, b.chunk, b.score
FROM pg_catalog.jsonb_to_recordset($1::pg_catalog.jsonb) AS b (place int, key jsonb, chunk text, score float8{columns})
JOIN {source} {alias} ON {matches}
ORDER BY b.place

-- statement_time(): when the caller's statement began
SELECT pg_catalog.statement_timestamp()::pg_catalog.text
