-- Neither table is dumped: where a database is restored nothing of them is true, and a pipeline without a row here is
-- one whose changes have to be captured from now on, and whose rows have all to be checked.
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
COMMENT ON TABLE embed.wal IS 'pipelines whose changes are read from the WAL, are to be, or still have to be read to the end';
COMMENT ON COLUMN embed.wal.state IS
    'pending: not in the publication yet; published: waits for transactions that began before it was published; '
    'catching_up: read up to position, then streaming; draining: read up to position, then removed; '
    'unsupported: the WAL does not identify its rows, and triggers capture';
COMMENT ON COLUMN embed.wal.triggers IS 'triggers capture meanwhile';
COMMENT ON COLUMN embed.wal.recheck IS 'nothing captures meanwhile: every row is checked as soon as something does';
COMMENT ON COLUMN embed.wal.partitions IS 'the tables that were looked at last: the source and its partitions';
COMMENT ON COLUMN embed.wal.note IS 'why it is not read, or was not';

-- Whoever has read from an earlier position on and logged what came up to a later one adds that one in the same
-- transaction. So the furthest that is committed counts, and no row is locked: a drain left open is in nobody's way.
CREATE TABLE embed.wal_position (
    slot name NOT NULL,
    lsn  pg_lsn NOT NULL
) WITH (autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, vacuum_truncate = false);
ALTER TABLE embed.wal_position REPLICA IDENTITY FULL;  -- no key: see embed.change_log
COMMENT ON TABLE embed.wal_position IS 'up to where the WAL was read, by replication slot; the furthest counts';

-- A sequence, because whoever waits is in a transaction of his own: this is seen at once.
CREATE SEQUENCE embed.wal_awaited;
COMMENT ON SEQUENCE embed.wal_awaited IS 'a position, as a number, up to which somebody waits for the WAL to be read: it is to be noted';
