CREATE TABLE embed.job (
    generation  int NOT NULL,
    key         jsonb NOT NULL,
    lane        int2 NOT NULL DEFAULT 0,
    xid         xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    changes     bigint NOT NULL DEFAULT 1,
    attempts    int NOT NULL DEFAULT 0,
    token       bigint,
    ready_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    changed_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_error  text,
    error_scope text,
    unserved_since timestamptz,
    max_batch   int,
    PRIMARY KEY (generation, key)
) WITH (
    fillfactor = 70, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false, toast.vacuum_truncate = false
);
-- The claim's order. The lease (token, ready_at, attempts) is in no index: taking one is a HOT update.
-- The condition holds for every row. It keeps look-ups by (generation, key) away from this index: with the statistics of
-- an emptier moment the planner took it for them, as the smaller one, and read a whole lane for each key.
CREATE INDEX job_claim_idx ON embed.job (generation, lane, xid) WHERE lane IN (0, 1);
COMMENT ON TABLE embed.job IS 'keys that need work, at most one row per (generation, key); written by workers only';
COMMENT ON COLUMN embed.job.lane IS '0 live, 1 backfill';
COMMENT ON COLUMN embed.job.changes IS 'counts changes folded into this row; a finish counts only if it is still what was claimed';
COMMENT ON COLUMN embed.job.error_scope IS
    'for how long last_error holds: row, until the next try; service, while model or endpoint are unwell; '
    'rest, as service, where that was not even asked; budget, while that is spent';
COMMENT ON COLUMN embed.job.unserved_since IS 'the oldest change of the row that is not searchable yet, which lag is counted from; NULL for history';
COMMENT ON COLUMN embed.job.max_batch IS
    'the most texts that the next request with it may hold, after one that failed for a reason that was not found out; NULL: any';
COMMENT ON COLUMN embed.job.token IS 'the claim that has it; only as good as its row in embed.lease';
SELECT pg_catalog.pg_extension_config_dump('embed.job', '');
