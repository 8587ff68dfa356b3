-- peek(text, pg_lsn, int4): what was committed since the slot was moved on, up to there, by whole transactions, till these are so
-- many messages
SELECT l.data FROM pg_catalog.pg_logical_slot_peek_binary_changes($1, $2, $3,
    'proto_version', '1', 'publication_names', 'evergreen_cdc') l

-- settings(): those of the client and of the log
SELECT pg_catalog.current_setting('client_encoding') AS encoding, pg_catalog.current_setting('log_min_messages') AS level

-- set(text, text): the encoding of the texts in those messages; what goes to the server's log, where each start of
-- decoding leaves two entries (only a superuser may say so)
SELECT pg_catalog.set_config('client_encoding', $1, true),
       (SELECT pg_catalog.set_config('log_min_messages', $2, true) FROM pg_catalog.pg_roles r
        WHERE r.rolname = current_user AND r.rolsuper)

-- snapshot(): what everybody sees by now
SELECT pg_catalog.pg_current_snapshot()::text

-- watchers(oid): the pipelines that a table belongs to: as their source, or as a partition of it
SELECT w.pipeline FROM embed.wal w JOIN embed.pipeline p ON p.id = w.pipeline
WHERE p.source = $1 OR p.source IN (SELECT a.relid FROM pg_catalog.pg_partition_ancestors($1) a)

-- types(oid, text[]): those of some columns of a table
SELECT ARRAY(SELECT a.atttypid::pg_catalog.int8 FROM pg_catalog.unnest($2) WITH ORDINALITY u (name, ord)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attname = u.name ORDER BY u.ord) AS types

-- log_keys(int4, jsonb): keys to check; each is an array: microseconds since 2000, of a transaction of many, values
INSERT INTO embed.change (pipeline, key, changed_at, bulk)
SELECT $1, {key}, '2000-01-01 00:00:00+00'::timestamptz + (e ->> 0)::pg_catalog.int8 * '1 microsecond'::interval,
       (e ->> 1)::pg_catalog.bool
FROM pg_catalog.jsonb_array_elements($2) e

-- add_position(text, text): all up to there is logged
INSERT INTO embed.wal_position (slot, lsn) VALUES ($1, $2::pg_catalog.pg_lsn)

-- drop_positions(text): those that count no more
DELETE FROM embed.wal_position WHERE ctid = ANY (ARRAY(
    SELECT r.ctid FROM embed.wal_position r
    WHERE r.slot = $1 AND r.lsn < (SELECT max(n.lsn) FROM embed.wal_position n WHERE n.slot = $1)
    FOR UPDATE SKIP LOCKED))

-- start(): the slot, how far it was read and how far there is something. is_cut: whether a record may lie across that end: what
-- nobody waits for is brought to disk by whole pages, and records do not end with them. Whoever decodes it waits for the rest.
SELECT embed.slot_name()::text AS name, max(r.lsn)::text AS read, e.lsn::text AS written,
       pg_catalog.pg_wal_lsn_diff(e.lsn, '0/0') % pg_catalog.current_setting('wal_block_size')::int = 0 AS is_cut
FROM (SELECT pg_catalog.pg_current_wal_flush_lsn() AS lsn) e
LEFT JOIN embed.wal_position r ON r.slot = embed.slot_name()
GROUP BY e.lsn

-- bring_to_disk(): the commit of this does it, of all that is in the WAL; a standby is not waited for
SELECT pg_catalog.set_config('synchronous_commit', 'local', true), pg_catalog.pg_current_xact_id()
