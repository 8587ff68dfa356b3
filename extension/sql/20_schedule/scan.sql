CREATE TABLE embed.scan (
    generation int NOT NULL,
    scope      text NOT NULL CHECK (scope IN ('source', 'document')),
    running    boolean NOT NULL DEFAULT false,
    position   jsonb,
    round      bigint NOT NULL DEFAULT 0,
    started_at timestamptz,
    last_error text,
    walked     bigint NOT NULL DEFAULT 0,
    moved_at   timestamptz,
    worked     interval NOT NULL DEFAULT '0',
    PRIMARY KEY (generation, scope)
) WITH (fillfactor = 50, vacuum_truncate = false);
COMMENT ON TABLE embed.scan IS 'durable keyset cursors: over the source (backfill) and over the stored documents (orphans)';
COMMENT ON COLUMN embed.scan.round IS 'counts restarts, so that whoever walked an earlier round does not end this one';
COMMENT ON COLUMN embed.scan.position IS 'the last key that was queued; NULL at the start';
COMMENT ON COLUMN embed.scan.walked IS 'keys since it was started, counted as it moves: what progress is reckoned from';
COMMENT ON COLUMN embed.scan.worked IS 'time since it was started, without that in which nobody moved it';
SELECT pg_catalog.pg_extension_config_dump('embed.scan', '');
