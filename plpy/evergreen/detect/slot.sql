-- possible(): what must be so before any WAL can be read
SELECT pg_catalog.current_setting('wal_level') AS wal_level,
       (SELECT r.rolsuper OR r.rolreplication FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) AS may,
       current_user::pg_catalog.text AS owner,
       pg_catalog.current_setting('max_replication_slots')::int AS slots,
       (SELECT count(*) FROM pg_catalog.pg_replication_slots s WHERE s.slot_name <> embed.slot_name()) AS taken

-- unfit(oid, int4[]): why changes of a table cannot be read; NULL where they can
SELECT embed.unfit($1, $2::int2[])

-- look(text): the slot, and how far it was read
SELECT embed.slot_name()::text AS name, s.slot_name IS NOT NULL AS there, s.wal_status, s.active,
       s.plugin = 'pgoutput' AND s.database = pg_catalog.current_database() AS ours,
       s.confirmed_flush_lsn::text AS confirmed, r.lsn::text AS read, s.confirmed_flush_lsn > r.lsn AS skipped,
       pg_catalog.pg_current_wal_flush_lsn()::text AS written, embed.slot_lag() AS lag,
       EXISTS (SELECT FROM embed.wal w WHERE w.state IN ('settling', 'reading', 'leaving')) AS relied_on,
       EXISTS (SELECT FROM pg_catalog.pg_publication u WHERE u.pubname = 'evergreen_cdc') AS published,
       coalesce((SELECT min(pg_catalog.pg_size_bytes(p.options ->> 'slot_limit')) FROM embed.pipeline p
                 JOIN embed.wal w ON w.pipeline = p.id WHERE p.options ? 'slot_limit'),
                pg_catalog.pg_size_bytes($1)) AS most
FROM (SELECT max(r.lsn) AS lsn FROM embed.wal_position r WHERE r.slot = embed.slot_name()) r
LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = embed.slot_name()

-- create_slot(): waits for every transaction that has written; must be the first thing that its transaction writes
SELECT pg_catalog.pg_create_logical_replication_slot(embed.slot_name(), 'pgoutput')

-- adopt_slot(): from here on it is read
INSERT INTO embed.wal_position (slot, lsn)
SELECT s.slot_name, s.confirmed_flush_lsn FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = embed.slot_name()

-- drop_unfinished_slot(): a slot that was not to be had in time stays this session's
SELECT pg_catalog.pg_drop_replication_slot(s.slot_name) FROM pg_catalog.pg_replication_slots s
WHERE s.slot_name = embed.slot_name() AND s.active_pid = pg_catalog.pg_backend_pid()

-- release(): an advance to where it stands reads nothing and lets it go
SELECT pg_catalog.pg_replication_slot_advance(s.slot_name, s.confirmed_flush_lsn) FROM pg_catalog.pg_replication_slots s
WHERE s.slot_name = embed.slot_name() AND s.active_pid = pg_catalog.pg_backend_pid()

-- drop_slot(): at once, whatever becomes of this transaction
SELECT pg_catalog.pg_drop_replication_slot(s.slot_name) FROM pg_catalog.pg_replication_slots s
WHERE s.slot_name = embed.slot_name() AND s.database = pg_catalog.current_database()

-- forget_positions(): of a slot that is gone
DELETE FROM embed.wal_position

-- patience(text): how long to wait for other transactions
SELECT pg_catalog.set_config('lock_timeout', $1, true)

-- advance(text): lets the server remove the WAL up to there; at once, whatever becomes of this transaction
SELECT pg_catalog.pg_replication_slot_advance(embed.slot_name(), $1::pg_catalog.pg_lsn)

-- create_publication(): leaves publish, so that TRUNCATE of one is seen. No column list: with REPLICA IDENTITY FULL that
-- makes the owner's UPDATE fail (tried). It is there before the slot is, as what is read names it.
CREATE PUBLICATION evergreen_cdc WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)

-- comment_publication(): says what it is
COMMENT ON PUBLICATION evergreen_cdc IS 'evergreen: tables whose changes are read from the WAL; made and dropped by its workers'

-- drop_publication(): with the slot
DROP PUBLICATION IF EXISTS evergreen_cdc

-- publish(): {table} from now on
ALTER PUBLICATION evergreen_cdc ADD TABLE ONLY {table}

-- unpublish(): {table} no more
ALTER PUBLICATION evergreen_cdc DROP TABLE ONLY {table}

-- is_published(oid): is a table in the publication
SELECT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication u ON u.oid = r.prpubid
               WHERE u.pubname = 'evergreen_cdc' AND r.prrelid = $1)

-- published_in_vain(): tables in the publication that no pipeline needs there
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS table_name, c.oid::bigint AS table_oid
FROM pg_catalog.pg_publication u
JOIN pg_catalog.pg_publication_rel r ON r.prpubid = u.oid
JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE u.pubname = 'evergreen_cdc'
  AND NOT EXISTS (SELECT FROM embed.pipeline p JOIN embed.wal w ON w.pipeline = p.id
                  WHERE p.source = c.oid AND w.state NOT IN ('unable', 'leaving'))
