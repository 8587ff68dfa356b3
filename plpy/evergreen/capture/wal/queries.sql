-- survey(): pending work on WAL capture
SELECT (SELECT count(*) FROM embed.pipeline p
        WHERE p.capture = 'cdc' AND NOT EXISTS (SELECT FROM embed.wal w WHERE w.pipeline = p.id)) AS new,
       count(*) FILTER (WHERE w.state = 'pending') AS pending,
       count(*) FILTER (WHERE w.state IN ('published', 'catching_up', 'draining')) AS moving,
       count(*) FILTER (WHERE w.state = 'unsupported') AS unsupported,
       count(*) FILTER (WHERE w.state = 'streaming') AS streaming,
       EXISTS (SELECT FROM embed.wal_position) AS has_slot,
       (SELECT a.last_value FROM embed.wal_awaited a)
           > (SELECT pg_catalog.pg_wal_lsn_diff(max(r.lsn), '0/0') FROM embed.wal_position r WHERE r.slot = embed.slot_name()) AS awaited
FROM embed.wal w

-- is_needed(): whether a pipeline needs the slot, or will
SELECT EXISTS (SELECT FROM embed.wal w WHERE w.state <> 'unsupported') OR EXISTS (SELECT FROM embed.pipeline p WHERE p.capture = 'cdc')

-- register_pipelines(): adds pipelines that a restore brought, removes dropped ones
WITH gone AS (DELETE FROM embed.wal w WHERE NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = w.pipeline))
INSERT INTO embed.wal (pipeline, state) SELECT p.id, 'pending' FROM embed.pipeline p
WHERE p.capture = 'cdc' AND NOT EXISTS (SELECT FROM embed.wal w WHERE w.pipeline = p.id)
ON CONFLICT DO NOTHING

-- pipelines_in_state(text): pipelines in a state
SELECT w.pipeline FROM embed.wal w WHERE w.state = $1

-- lock_in_state(int4, text): locks a pipeline in a state, unless another session has it locked
SELECT w.recheck FROM embed.wal w WHERE w.pipeline = $1 AND w.state = $2 FOR UPDATE SKIP LOCKED

-- set_published(int4): the table is in the publication once this commits
UPDATE embed.wal SET state = 'published', horizon = NULL, position = NULL WHERE pipeline = $1

-- set_unsupported(int4, text): falls back to triggers
UPDATE embed.wal SET state = 'unsupported', triggers = true, recheck = true, note = $2 WHERE pipeline = $1

-- set_pending(int4): its replica identity works again; triggers capture until the WAL is read
UPDATE embed.wal SET state = 'pending', note = NULL WHERE pipeline = $1

-- set_note(text): records why it takes so long
UPDATE embed.wal SET note = $1
WHERE pipeline = ANY (ARRAY(SELECT w.pipeline FROM embed.wal w
                            WHERE w.state IN ('pending', 'published', 'catching_up') AND w.note IS DISTINCT FROM $1
                            FOR UPDATE SKIP LOCKED))

-- clear_recheck(int4): everything is captured from now on, and a full check is queued
UPDATE embed.wal SET recheck = false WHERE pipeline = $1

-- mark_horizon(): transactions that started earlier have a lower id
UPDATE embed.wal SET horizon = pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
WHERE pipeline = ANY (ARRAY(SELECT w.pipeline FROM embed.wal w
                            WHERE w.state = 'published' AND w.horizon IS NULL FOR UPDATE SKIP LOCKED))

-- set_catching_up(): older transactions have ended, so their writes lie before this position.
-- No read may start before it: releases before 15.13 treat the table as unpublished for that whole read.
UPDATE embed.wal SET state = 'catching_up', position = pg_catalog.pg_current_wal_insert_lsn()
WHERE pipeline = ANY (ARRAY(SELECT w.pipeline FROM embed.wal w
                            WHERE w.state = 'published'
                              AND w.horizon <= pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())
                            FOR UPDATE SKIP LOCKED))

-- caught_up(text): pipelines read far enough
SELECT w.pipeline FROM embed.wal w WHERE w.state = 'catching_up' AND w.position <= $1::pg_catalog.pg_lsn

-- needs_recheck(int4): whether changes were missed until now
SELECT w.recheck FROM embed.wal w WHERE w.pipeline = $1 AND w.state = 'catching_up' FOR UPDATE

-- set_streaming(int4, int8[]): nothing else captures from now on
UPDATE embed.wal SET state = 'streaming', triggers = false, recheck = false, horizon = NULL, position = NULL,
                     partitions = $2::pg_catalog.oid[]
WHERE pipeline = $1 AND state = 'catching_up'

-- finish_draining(text): removes pipelines that were read to the end
DELETE FROM embed.wal WHERE pipeline = ANY (ARRAY(
    SELECT w.pipeline FROM embed.wal w WHERE w.state = 'draining' AND w.position <= $1::pg_catalog.pg_lsn FOR UPDATE SKIP LOCKED))

-- changed_partitions(): pipelines whose partitions differ from the last known ones
SELECT w.pipeline FROM embed.wal w JOIN embed.pipeline p ON p.id = w.pipeline
WHERE w.state = 'streaming' AND w.partitions <> ARRAY(
    SELECT t.relid FROM embed.partition_tree(p.source) t (relid) ORDER BY t.relid)

-- requirements(): what reading the WAL requires
SELECT pg_catalog.current_setting('wal_level') AS wal_level,
       (SELECT r.rolsuper OR r.rolreplication FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) AS may,
       current_user::pg_catalog.text AS owner,
       pg_catalog.current_setting('max_replication_slots')::int AS slots,
       (SELECT count(*) FROM pg_catalog.pg_replication_slots s WHERE s.slot_name <> embed.slot_name()) AS taken

-- replication_obstacle(oid, int4[]): why changes of a table cannot be read; NULL if they can
SELECT embed.replication_obstacle($1, $2::int2[])

-- slot_status(text): the slot, and how far it was read
SELECT embed.slot_name()::text AS name, s.slot_name IS NOT NULL AS "exists", s.wal_status, s.active,
       s.plugin = 'pgoutput' AND s.database = pg_catalog.current_database() AS ours,
       s.confirmed_flush_lsn::text AS confirmed, r.lsn::text AS logged, s.confirmed_flush_lsn > r.lsn AS skipped,
       pg_catalog.pg_current_wal_flush_lsn()::text AS flushed, embed.slot_lag() AS lag,
       EXISTS (SELECT FROM embed.wal w WHERE w.state IN ('catching_up', 'streaming', 'draining')) AS relied_on,
       EXISTS (SELECT FROM pg_catalog.pg_publication u WHERE u.pubname = 'evergreen_cdc') AS has_publication,
       coalesce((SELECT min(pg_catalog.pg_size_bytes(p.options ->> 'slot_limit')) FROM embed.pipeline p
                 JOIN embed.wal w ON w.pipeline = p.id WHERE p.options ? 'slot_limit'),
                pg_catalog.pg_size_bytes($1)) AS "limit"
FROM (SELECT max(r.lsn) AS lsn FROM embed.wal_position r WHERE r.slot = embed.slot_name()) r
LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = embed.slot_name()

-- create_slot(): waits for every transaction that has written; must be the first write of its own transaction
SELECT pg_catalog.pg_create_logical_replication_slot(embed.slot_name(), 'pgoutput')

-- record_slot(): reading starts here
INSERT INTO embed.wal_position (slot, lsn)
SELECT s.slot_name, s.confirmed_flush_lsn FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = embed.slot_name()

-- drop_unfinished_slot(): a slot whose creation timed out stays acquired by this session
SELECT pg_catalog.pg_drop_replication_slot(s.slot_name) FROM pg_catalog.pg_replication_slots s
WHERE s.slot_name = embed.slot_name() AND s.active_pid = pg_catalog.pg_backend_pid()

-- release_slot(): advancing to the current position reads nothing and releases the slot
SELECT pg_catalog.pg_replication_slot_advance(s.slot_name, s.confirmed_flush_lsn) FROM pg_catalog.pg_replication_slots s
WHERE s.slot_name = embed.slot_name() AND s.active_pid = pg_catalog.pg_backend_pid()

-- drop_slot(): takes effect at once, even if this transaction is rolled back
SELECT pg_catalog.pg_drop_replication_slot(s.slot_name) FROM pg_catalog.pg_replication_slots s
WHERE s.slot_name = embed.slot_name() AND s.database = pg_catalog.current_database()

-- delete_positions(): positions of a dropped slot
DELETE FROM embed.wal_position

-- advance_slot(text): lets the server remove WAL up to this position; takes effect at once, even if this transaction is rolled back
SELECT pg_catalog.pg_replication_slot_advance(embed.slot_name(), $1::pg_catalog.pg_lsn)

-- create_publication(): publishes partitions, so that TRUNCATE of one is captured.
-- No column list: with REPLICA IDENTITY FULL it makes the owner's UPDATE fail (tested). Created before the slot, because
-- decoding refers to it.
CREATE PUBLICATION evergreen_cdc WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)

-- comment_publication(): says what it is
COMMENT ON PUBLICATION evergreen_cdc IS 'evergreen: tables whose changes are read from the WAL; made and dropped by its workers'

-- drop_publication(): dropped together with the slot
DROP PUBLICATION IF EXISTS evergreen_cdc

-- publish(): adds {table} to the publication
ALTER PUBLICATION evergreen_cdc ADD TABLE ONLY {table}

-- unpublish(): removes {table} from the publication
ALTER PUBLICATION evergreen_cdc DROP TABLE ONLY {table}

-- is_published(oid): whether a table is in the publication
SELECT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication u ON u.oid = r.prpubid
               WHERE u.pubname = 'evergreen_cdc' AND r.prrelid = $1)

-- unused_tables(): published tables that no pipeline needs in the publication
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS table_name, c.oid::bigint AS table_oid
FROM pg_catalog.pg_publication u
JOIN pg_catalog.pg_publication_rel r ON r.prpubid = u.oid
JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE u.pubname = 'evergreen_cdc'
  AND NOT EXISTS (SELECT FROM embed.pipeline p JOIN embed.wal w ON w.pipeline = p.id
                  WHERE p.source = c.oid AND w.state NOT IN ('unsupported', 'draining'))

-- peek(text, pg_lsn, int4): changes committed since the slot last advanced, up to a position, in whole transactions, until this
-- many messages are read
SELECT l.data FROM pg_catalog.pg_logical_slot_peek_binary_changes($1, $2, $3,
    'proto_version', '1', 'publication_names', 'evergreen_cdc') l

-- decoding_settings(): client and log settings that decoding changes
SELECT pg_catalog.current_setting('client_encoding') AS encoding, pg_catalog.current_setting('log_min_messages') AS level

-- set_decoding_settings(text, text): sets the encoding of the message texts, and silences the server's log.
-- Each start of decoding writes two log entries; only a superuser may change that.
SELECT pg_catalog.set_config('client_encoding', $1, true),
       (SELECT pg_catalog.set_config('log_min_messages', $2, true) FROM pg_catalog.pg_roles r
        WHERE r.rolname = current_user AND r.rolsuper)

-- pipelines_of_table(oid): pipelines that a table belongs to, as their source or as a partition of it
SELECT w.pipeline FROM embed.wal w JOIN embed.pipeline p ON p.id = w.pipeline
WHERE p.source = $1 OR p.source IN (SELECT a.relid FROM pg_catalog.pg_partition_ancestors($1) a)

-- column_types(oid, text[]): types of some columns of a table
SELECT ARRAY(SELECT a.atttypid::pg_catalog.int8 FROM pg_catalog.unnest($2) WITH ORDINALITY u (name, ord)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attname = u.name ORDER BY u.ord) AS types

-- add_position(text, text): everything up to this position is logged
INSERT INTO embed.wal_position (slot, lsn) VALUES ($1, $2::pg_catalog.pg_lsn)

-- delete_old_positions(text): superseded positions
DELETE FROM embed.wal_position WHERE ctid = ANY (ARRAY(
    SELECT r.ctid FROM embed.wal_position r
    WHERE r.slot = $1 AND r.lsn < (SELECT max(n.lsn) FROM embed.wal_position n WHERE n.slot = $1)
    FOR UPDATE SKIP LOCKED))

-- read_range(): the slot, how far it was read, and the end of the available WAL.
-- is_partial: whether a record may extend past that end. WAL that no session waits for is flushed in whole pages, and records do
-- not end with them; decoding waits for the rest.
SELECT embed.slot_name()::text AS name, max(r.lsn)::text AS logged, e.lsn::text AS flushed,
       pg_catalog.pg_wal_lsn_diff(e.lsn, '0/0') % pg_catalog.current_setting('wal_block_size')::int = 0 AS is_partial
FROM (SELECT pg_catalog.pg_current_wal_flush_lsn() AS lsn) e
LEFT JOIN embed.wal_position r ON r.slot = embed.slot_name()
GROUP BY e.lsn

-- flush_wal(): its commit flushes all WAL written so far; does not wait for a standby
SELECT pg_catalog.set_config('synchronous_commit', 'local', true), pg_catalog.pg_current_xact_id()

-- delete_draining(): pipelines whose earlier changes can no longer be read from the WAL
DELETE FROM embed.wal WHERE state = 'draining' RETURNING pipeline

-- restart_capture(text): changes may have been missed: starts over and checks all rows
UPDATE embed.wal SET state = 'pending', recheck = true, horizon = NULL, position = NULL, note = $1 WHERE state <> 'unsupported'

-- request_streaming(int4, bool): queues capture from the WAL; the current capture continues until then, or without one everything
-- is checked then
INSERT INTO embed.wal AS w (pipeline, state, triggers, recheck) VALUES ($1, 'pending', $2, NOT $2)
ON CONFLICT (pipeline) DO UPDATE SET state = 'pending', triggers = $2, recheck = NOT $2, horizon = NULL, position = NULL, note = NULL

-- stop_streaming(int4): changes committed before now still have to be read; returns whether all of them will be
WITH reading AS (
    UPDATE embed.wal SET state = 'draining', triggers = false, position = pg_catalog.pg_current_wal_insert_lsn(), note = NULL
    WHERE pipeline = $1 AND state = 'streaming' RETURNING true
), others AS (
    DELETE FROM embed.wal WHERE pipeline = $1 AND state <> 'streaming' RETURNING triggers AND NOT recheck AS captured
)
SELECT EXISTS (SELECT FROM reading) OR coalesce((SELECT o.captured FROM others o), false) AS complete

-- delete_pipeline(int4): the pipeline is dropped
DELETE FROM embed.wal WHERE pipeline = $1
