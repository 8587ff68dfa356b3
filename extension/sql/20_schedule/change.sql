-- Append-only: writers INSERT, workers DELETE, nobody updates. No unique index and no foreign key, so that a writer can
-- meet no other session here; no CHECK, which cost a quarter of the trigger's time, and only our own code writes here. A unique queue with ON CONFLICT DO NOTHING was measured to lose 47 of 200 updates.
CREATE TABLE embed.change (
    pipeline   int NOT NULL,
    xid        xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    key        jsonb,
    scope      text,
    changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    bulk       boolean,
    wake       boolean,
    recheck    boolean
) WITH (
    autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false, toast.vacuum_truncate = false
);
CREATE INDEX change_pipeline_idx ON embed.change (pipeline, xid);
-- A publication FOR ALL TABLES refuses DELETE on a table without an identity. FULL needs no index: writers pay nothing,
-- and with wal_level = logical a DELETE writes the old row (about 100 bytes) to the WAL. Likewise for the tables below.
ALTER TABLE embed.change REPLICA IDENTITY FULL;
COMMENT ON TABLE embed.change IS 'log of changed keys; a row says "check this key", nothing else';
COMMENT ON COLUMN embed.change.scope IS 'instead of a key: check every stored document (TRUNCATE, DETACH), or every source row too (ATTACH)';
COMMENT ON COLUMN embed.change.bulk IS
    'was it written by a transaction of many rows; NULL where that transaction logged it itself, and they can be counted';
COMMENT ON COLUMN embed.change.wake IS 'true where a worker slept when the row was written: it is woken by the commit';
COMMENT ON COLUMN embed.change.recheck IS 'true where the row did not change, as after embed_retry(): lag does not count it';
SELECT pg_catalog.pg_extension_config_dump('embed.change', '');

CREATE TABLE embed.intake (
    pipeline int PRIMARY KEY,
    floor    xid8 NOT NULL DEFAULT '0'
) WITH (fillfactor = 50, vacuum_truncate = false);
COMMENT ON TABLE embed.intake IS 'one row a pipeline: locked by the worker that folds its change log into jobs';
COMMENT ON COLUMN embed.intake.floor IS 'no row of embed.change below this transaction id is left: where the next scan starts';
SELECT pg_catalog.pg_extension_config_dump('embed.intake', '');
