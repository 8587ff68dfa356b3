-- Neither table is dumped: after a restore none of it is true. A pipeline without a row here starts capturing from then on, and
-- all of its rows are checked.
CREATE TABLE embed.wal (
    pipeline int PRIMARY KEY,
    state    text NOT NULL CHECK (state IN ('pending', 'published', 'catching_up', 'streaming', 'draining', 'unsupported')),
    triggers boolean NOT NULL DEFAULT false,
    recheck  boolean NOT NULL DEFAULT true,
    horizon  xid8,
    position pg_lsn,
    partitions oid[],
    note     text
) WITH (fillfactor = 50, vacuum_truncate = false);
COMMENT ON TABLE embed.wal IS 'pipelines whose changes are read from the WAL, will be, or still have to be read to the end';
COMMENT ON COLUMN embed.wal.state IS
    'pending: not in the publication yet; published: waiting for transactions older than its publication; catching_up: read '
    'up to position, then streaming; draining: read up to position, then removed; unsupported: the WAL does not identify its '
    'rows, so triggers capture';
COMMENT ON COLUMN embed.wal.triggers IS 'true: triggers capture in this state';
COMMENT ON COLUMN embed.wal.recheck IS 'true: nothing captures in this state; every row is checked once capture works';
COMMENT ON COLUMN embed.wal.partitions IS 'last known tables: the source and its partitions';
COMMENT ON COLUMN embed.wal.note IS 'why it is not read from the WAL, or was not';

-- The transaction that logs the changes up to a later position also inserts that position here. The furthest committed position
-- counts, and no row is locked, so a drain left open blocks nothing.
CREATE TABLE embed.wal_position (
    slot name NOT NULL,
    lsn  pg_lsn NOT NULL
) WITH (autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, vacuum_truncate = false);
ALTER TABLE embed.wal_position REPLICA IDENTITY FULL;  -- no key: see embed.change_log
COMMENT ON TABLE embed.wal_position IS 'position up to which the WAL was read, per replication slot; the furthest counts';

-- A sequence, because a waiting session is in its own transaction: its value is visible at once.
CREATE SEQUENCE embed.wal_awaited;
COMMENT ON SEQUENCE embed.wal_awaited IS 'WAL position, as a number, up to which a session waits for the WAL to be read';
