-- Append-only: writers INSERT, workers DELETE, and nothing updates. No unique index and no foreign key, so that a writer never
-- conflicts with another session. No CHECK: it took a quarter of the trigger's time, and only our own code writes here. A
-- unique queue with ON CONFLICT DO NOTHING lost 47 of 200 updates when measured.
CREATE TABLE embed.change_log (
    pipeline   int NOT NULL,
    xid        xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    key        jsonb,
    scope      text,
    changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    bulk       boolean,
    wake       boolean,
    recheck    boolean,
    dependency int,
    link       jsonb
) WITH (
    autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false, toast.vacuum_truncate = false
);
CREATE INDEX change_log_pipeline_idx ON embed.change_log (pipeline, xid);
-- A publication FOR ALL TABLES rejects DELETE on a table without a replica identity. FULL needs no index, so writers pay
-- nothing; with wal_level = logical, a DELETE writes the old row (about 100 bytes) to the WAL. The same applies to the tables
-- below.
ALTER TABLE embed.change_log REPLICA IDENTITY FULL;
COMMENT ON TABLE embed.change_log IS 'log of changed keys: each row says "check this key", nothing else';
COMMENT ON COLUMN embed.change_log.scope IS
    'instead of a key: check every stored document (TRUNCATE, DETACH), or every source row as well (ATTACH)';
COMMENT ON COLUMN embed.change_log.bulk IS
    'whether a transaction with many changes wrote it; NULL if that transaction logged the row itself, so its rows can be '
    'counted';
COMMENT ON COLUMN embed.change_log.wake IS 'true if a worker was asleep when the row was written: the commit wakes it';
COMMENT ON COLUMN embed.change_log.dependency IS 'for a view: the row of embed.dependency whose table changed';
COMMENT ON COLUMN embed.change_log.link IS
    'instead of a key: values of that link''s columns; every row of the view that they lead to is checked';
COMMENT ON COLUMN embed.change_log.recheck IS 'true if the row did not change, as after embed_retry(): lag does not count it';
SELECT pg_catalog.pg_extension_config_dump('embed.change_log', '');

CREATE TABLE embed.change_log_state (
    pipeline   int PRIMARY KEY,
    scan_start xid8 NOT NULL DEFAULT '0',
    late_since timestamptz
) WITH (fillfactor = 50, vacuum_truncate = false);
COMMENT ON TABLE embed.change_log_state IS 'one row per pipeline, locked by the worker that coalesces its change log into jobs';
COMMENT ON COLUMN embed.change_log_state.scan_start IS
    'no row of embed.change_log below this transaction id remains: the next scan starts here';
COMMENT ON COLUMN embed.change_log_state.late_since IS
    'since when the pipeline is late, as a worker has logged it; NULL: it is on time';
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
    batch       bigint,
    dependency  int,
    PRIMARY KEY (generation, key)
) WITH (
    fillfactor = 70, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false, toast.vacuum_truncate = false
);
-- The claim order. The lease columns (token, ready_at, attempts) are in no index, so claiming is a HOT update.
-- The condition holds for every row. It keeps look-ups by (generation, key) off this index: with statistics from a time when
-- the table was emptier, the planner preferred it as the smaller one and read a whole lane for each key.
CREATE INDEX job_claim_idx ON embed.job (generation, lane, xid) WHERE lane IN (0, 1);
CREATE INDEX job_batch_idx ON embed.job (batch) WHERE batch > 0;
ALTER TABLE embed.job ALTER COLUMN last_error SET STATISTICS 0;  -- see embed.maintenance_error
COMMENT ON TABLE embed.job IS 'keys that need work, at most one row per (generation, key); written by workers only';
COMMENT ON COLUMN embed.job.lane IS '0: live, 1: backfill';
COMMENT ON COLUMN embed.job.changes IS
    'number of changes coalesced into this row; a job is done only if it still equals the claimed value';
COMMENT ON COLUMN embed.job.error_scope IS
    'how long last_error applies: row, until the next attempt; service, while the model or endpoint fails; rest, like '
    'service, but no request was made; budget, while the budget is spent';
COMMENT ON COLUMN embed.job.unserved_since IS
    'oldest change of the row that is not searchable yet, from which lag is measured; NULL for history';
COMMENT ON COLUMN embed.job.max_batch IS
    'most texts in the next request that includes it, after one failed for an unknown reason; NULL: no limit';
COMMENT ON COLUMN embed.job.batch IS
    'batch that the row waits for until ready_at, see embed.batch; 0: its batch is over, so what it still needs goes by requests';
COMMENT ON COLUMN embed.job.dependency IS 'for a view: the row of embed.dependency whose table changed first';
COMMENT ON COLUMN embed.job.token IS 'the claim that holds it; valid only while embed.lease has that token';
SELECT pg_catalog.pg_extension_config_dump('embed.job', '');

CREATE SEQUENCE embed.token;
COMMENT ON SEQUENCE embed.token IS 'claim tokens; never reused';
SELECT pg_catalog.pg_extension_config_dump('embed.token', '');

CREATE TABLE embed.lease (
    token      bigint PRIMARY KEY,
    generation int NOT NULL,
    expires_at timestamptz NOT NULL,
    external_interval interval,
    counted    boolean NOT NULL DEFAULT false,
    epoch      bigint
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.lease IS
    'current claims; a claim ends when it expires, when its row is deleted, or when the session advisory lock that its worker '
    'holds on the token is free';
COMMENT ON COLUMN embed.lease.external_interval IS
    'for a claim by embed_claim: how long each renewal lasts; no session holds it, so only time ends it';
COMMENT ON COLUMN embed.lease.counted IS
    'whether the rows of an expired claim by embed_claim have been counted as lost: see embed.job.max_batch';
COMMENT ON COLUMN embed.lease.epoch IS
    'for a claim by embed_claim: embed.model_watch.epoch when it was made; vectors of a later one are refused';
SELECT pg_catalog.pg_extension_config_dump('embed.lease', '');

CREATE TABLE embed.backfill_cursor (
    generation int NOT NULL,
    scope      text NOT NULL CHECK (scope IN ('source', 'document')),
    running    boolean NOT NULL DEFAULT false,
    position   jsonb,
    round      bigint NOT NULL DEFAULT 0,
    started_at timestamptz,
    last_error text,
    visited    bigint NOT NULL DEFAULT 0,
    moved_at   timestamptz,
    active_time interval NOT NULL DEFAULT '0',
    PRIMARY KEY (generation, scope)
) WITH (fillfactor = 50, vacuum_truncate = false);
ALTER TABLE embed.backfill_cursor ALTER COLUMN last_error SET STATISTICS 0;  -- see embed.maintenance_error
COMMENT ON TABLE embed.backfill_cursor IS
    'durable keyset cursors: over the source (backfill) and over the stored documents (orphans)';
COMMENT ON COLUMN embed.backfill_cursor.round IS
    'counts restarts, so that a worker still in an earlier round cannot end this one';
COMMENT ON COLUMN embed.backfill_cursor.position IS 'last key queued; NULL at the start';
COMMENT ON COLUMN embed.backfill_cursor.visited IS 'keys visited since the start; progress is computed from it';
COMMENT ON COLUMN embed.backfill_cursor.active_time IS 'time since the start, excluding periods in which no worker moved the cursor';
SELECT pg_catalog.pg_extension_config_dump('embed.backfill_cursor', '');

CREATE TABLE embed.link_cursor (
    pipeline   int NOT NULL,
    dependency int NOT NULL,
    link       jsonb NOT NULL,
    paging     boolean NOT NULL DEFAULT false,
    position   jsonb,
    lap_end    jsonb,
    wrapped    boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL,
    next_at    timestamptz,
    moved_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    ready_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    failures   int NOT NULL DEFAULT 0,
    last_error text,
    PRIMARY KEY (dependency, link)
) WITH (
    fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false, toast.vacuum_truncate = false
);
CREATE INDEX link_cursor_pipeline_idx ON embed.link_cursor (pipeline, moved_at);
ALTER TABLE embed.link_cursor ALTER COLUMN last_error SET STATISTICS 0;  -- see embed.maintenance_error
COMMENT ON TABLE embed.link_cursor IS
    'changed values of a link of a view (see embed.dependency) whose rows are still to be queued; one row however often they change';
COMMENT ON COLUMN embed.link_cursor.paging IS 'whether they lead to so many rows that these are queued page by page, in the lane of bulk changes';
COMMENT ON COLUMN embed.link_cursor.position IS 'last key queued; NULL at the start';
COMMENT ON COLUMN embed.link_cursor.lap_end IS
    'where the cursor was at the last change: it goes on to the end, starts again and stops there; NULL: it stops at the end';
COMMENT ON COLUMN embed.link_cursor.wrapped IS 'whether it has started again';
COMMENT ON COLUMN embed.link_cursor.changed_at IS 'oldest change that not all rows have been queued for';
COMMENT ON COLUMN embed.link_cursor.next_at IS 'oldest change since the cursor started: changed_at once it starts again';
COMMENT ON COLUMN embed.link_cursor.last_error IS 'why its rows could not be read, until ready_at';
SELECT pg_catalog.pg_extension_config_dump('embed.link_cursor', '');

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
    'texts returned by embed_claim and the rows that need them, until the claim ends, or for an hour after it expires';
COMMENT ON COLUMN embed.claimed_text.hash IS
    'hash of the text; empty for a claimed row that needs no text, but that another session had locked';
COMMENT ON COLUMN embed.claimed_text.tokens IS 'estimated tokens, charged to a daily budget';
COMMENT ON COLUMN embed.claimed_text.received IS 'whether its vector has been submitted';
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
ALTER TABLE embed.failure ALTER COLUMN message SET STATISTICS 0;  -- see embed.maintenance_error
COMMENT ON TABLE embed.failure IS 'dead letters: keys given up until they change or are touched';
COMMENT ON COLUMN embed.failure.unserved_since IS 'copied from the job: lag counts the change once a retry succeeds';
SELECT pg_catalog.pg_extension_config_dump('embed.failure', '');

CREATE SEQUENCE embed.sleeper_until MINVALUE 0 START 0;
COMMENT ON SEQUENCE embed.sleeper_until IS
    'until when a worker sleeps and wants to be woken, in milliseconds since 1970; a sequence, because all sessions see it at '
    'once';
