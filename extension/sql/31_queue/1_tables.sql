-- Append-only: writers INSERT, workers DELETE, nobody updates. No unique index and no foreign key, so that a writer can
-- meet no other session here; no CHECK, which cost a quarter of the trigger's time, and only our own code writes here. A unique queue with ON CONFLICT DO NOTHING was measured to lose 47 of 200 updates.
CREATE TABLE embed.change_log (
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
CREATE INDEX change_log_pipeline_idx ON embed.change_log (pipeline, xid);
-- A publication FOR ALL TABLES refuses DELETE on a table without an identity. FULL needs no index: writers pay nothing,
-- and with wal_level = logical a DELETE writes the old row (about 100 bytes) to the WAL. Likewise for the tables below.
ALTER TABLE embed.change_log REPLICA IDENTITY FULL;
COMMENT ON TABLE embed.change_log IS 'log of changed keys; a row says "check this key", nothing else';
COMMENT ON COLUMN embed.change_log.scope IS 'instead of a key: check every stored document (TRUNCATE, DETACH), or every source row too (ATTACH)';
COMMENT ON COLUMN embed.change_log.bulk IS
    'was it written by a transaction of many rows; NULL where that transaction logged it itself, and they can be counted';
COMMENT ON COLUMN embed.change_log.wake IS 'true where a worker slept when the row was written: it is woken by the commit';
COMMENT ON COLUMN embed.change_log.recheck IS 'true where the row did not change, as after embed_retry(): lag does not count it';
SELECT pg_catalog.pg_extension_config_dump('embed.change_log', '');

CREATE TABLE embed.change_log_state (
    pipeline int PRIMARY KEY,
    floor    xid8 NOT NULL DEFAULT '0'
) WITH (fillfactor = 50, vacuum_truncate = false);
COMMENT ON TABLE embed.change_log_state IS 'one row a pipeline: locked by the worker that folds its change log into jobs';
COMMENT ON COLUMN embed.change_log_state.floor IS 'no row of embed.change_log below this transaction id is left: where the next scan starts';
SELECT pg_catalog.pg_extension_config_dump('embed.change_log_state', '');

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

CREATE SEQUENCE embed.token;
COMMENT ON SEQUENCE embed.token IS 'tokens of claims; never used twice';
SELECT pg_catalog.pg_extension_config_dump('embed.token', '');

CREATE TABLE embed.lease (
    token      bigint PRIMARY KEY,
    generation int NOT NULL,
    expires_at timestamptz NOT NULL,
    outside    interval
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.lease IS
    'claims under way; over when expired, deleted, or when the session advisory lock that its worker holds on the token is free';
COMMENT ON COLUMN embed.lease.outside IS
    'of a claim by embed_claim: how long it is good each time it is renewed; no session stands for it, so it goes by time alone';
SELECT pg_catalog.pg_extension_config_dump('embed.lease', '');

CREATE TABLE embed.backfill_cursor (
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
COMMENT ON TABLE embed.backfill_cursor IS 'durable keyset cursors: over the source (backfill) and over the stored documents (orphans)';
COMMENT ON COLUMN embed.backfill_cursor.round IS 'counts restarts, so that whoever walked an earlier round does not end this one';
COMMENT ON COLUMN embed.backfill_cursor.position IS 'the last key that was queued; NULL at the start';
COMMENT ON COLUMN embed.backfill_cursor.walked IS 'keys since it was started, counted as it moves: what progress is reckoned from';
COMMENT ON COLUMN embed.backfill_cursor.worked IS 'time since it was started, without that in which nobody moved it';
SELECT pg_catalog.pg_extension_config_dump('embed.backfill_cursor', '');

CREATE TABLE embed.claimed_text (
    token  bigint NOT NULL,
    hash   bytea NOT NULL,
    key    jsonb NOT NULL,
    tokens int NOT NULL,
    received boolean NOT NULL DEFAULT false
) WITH (vacuum_truncate = false);
CREATE INDEX claimed_text_token_idx ON embed.claimed_text (token, hash);
ALTER TABLE embed.claimed_text REPLICA IDENTITY FULL;  -- no key: see embed.change_log
COMMENT ON TABLE embed.claimed_text IS
    'texts that embed_claim handed out and the rows that need them, until the claim is over, or an hour after its time was up';
COMMENT ON COLUMN embed.claimed_text.hash IS
    'of a text; empty for a row of the claim that another session had locked when nothing was left to be done for it';
COMMENT ON COLUMN embed.claimed_text.tokens IS 'as estimated, and taken out of a daily budget';
COMMENT ON COLUMN embed.claimed_text.received IS 'whether its vector came';
SELECT pg_catalog.pg_extension_config_dump('embed.claimed_text', '');

CREATE TABLE embed.failure (
    generation int NOT NULL,
    key        jsonb NOT NULL,
    class      text NOT NULL CHECK (class IN ('retryable', 'permanent', 'configuration')),
    message    text NOT NULL,
    attempts   int NOT NULL,
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    unserved_since timestamptz,
    PRIMARY KEY (generation, key)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.failure IS 'dead letters: keys given up on until they change or are touched';
COMMENT ON COLUMN embed.failure.unserved_since IS 'as that of its job: lag counts the change once a retry succeeds';
SELECT pg_catalog.pg_extension_config_dump('embed.failure', '');

CREATE SEQUENCE embed.sleeper_until MINVALUE 0 START 0;
COMMENT ON SEQUENCE embed.sleeper_until IS
    'until when a worker sleeps and wants to be woken, in milliseconds since 1970; a sequence, because it is read at once by all';
