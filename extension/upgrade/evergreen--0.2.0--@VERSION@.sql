\echo Use "ALTER EXTENSION evergreen UPDATE" to load this file. \quit

-- As in the install script: no name resolves to a user's object.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- These have more arguments now. A view of the user's that calls one has to be dropped first, and made again.
DROP FUNCTION @extschema@.embed_estimate(text);
DROP FUNCTION @extschema@.embed_search(text, text, int, text, text, int, float8);
DROP FUNCTION @extschema@.embed_search_rows(anyelement, text, int, text);
DROP FUNCTION @extschema@.embed_search_rows_typed(anyelement, text, int, text);
DROP FUNCTION @extschema@.embed_search_rows_sql(regclass, text, int, text);
-- This one returns one more column.
DROP FUNCTION @extschema@.embed_claim(text, int, interval, text);
DROP FUNCTION @extschema@.embed_create(text, regclass, text[], text, text, jsonb, text, boolean, boolean, name, name, jsonb);
DROP FUNCTION embed.find_source(text, text);

CREATE TABLE embed.index_recall (
    generation  int PRIMARY KEY,
    index       oid NOT NULL,
    chunks      bigint NOT NULL,
    recall      float8 NOT NULL,
    ef_search   int NOT NULL,
    samples     int NOT NULL,
    target      float8 NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    bytes_per_chunk float8
) WITH (vacuum_truncate = false);
CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON embed.index_recall FOR EACH ROW
    WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated();
ALTER TABLE embed.index_recall ENABLE REPLICA TRIGGER skip_replicated;

-- VACUUM of an HNSW index is slow enough without pauses.
DO $do$
DECLARE
    generation_table text;
BEGIN
    FOR generation_table IN
        SELECT 'embed_store.g' || g.id FROM embed.generation g WHERE to_regclass('embed_store.g' || g.id) IS NOT NULL
    LOOP
        EXECUTE format('ALTER TABLE %s RESET (autovacuum_vacuum_cost_limit, toast.autovacuum_vacuum_cost_limit)', generation_table);
        EXECUTE format('ALTER TABLE %s SET (autovacuum_vacuum_cost_delay = 0, toast.autovacuum_vacuum_cost_delay = 0)',
                       generation_table);
    END LOOP;
END
$do$;

CREATE TABLE embed.bridge (
    building   int PRIMARY KEY,
    active     int NOT NULL,
    matrix     bytea NOT NULL,
    pairs      bigint NOT NULL,
    recall     float8 NOT NULL,
    overlap    float8,
    learned_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
) WITH (vacuum_truncate = false, toast.vacuum_truncate = false);
ALTER TABLE embed.bridge ALTER COLUMN matrix SET STORAGE EXTERNAL;  -- does not compress
SELECT pg_catalog.pg_extension_config_dump('embed.bridge', '');
CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON embed.bridge FOR EACH ROW
    WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated();
ALTER TABLE embed.bridge ENABLE REPLICA TRIGGER skip_replicated;

CREATE TABLE embed.model_watch (
    model      int PRIMARY KEY,
    revision   int NOT NULL DEFAULT 1,
    settled    boolean NOT NULL DEFAULT true,
    epoch      bigint NOT NULL DEFAULT 0,
    served_as  text,
    watched_at timestamptz,
    good_at    timestamptz,
    drift      float8,
    changed_at timestamptz,
    next_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    looks      bigint NOT NULL DEFAULT 0,
    agreeing   int NOT NULL DEFAULT 0
) WITH (fillfactor = 50, vacuum_truncate = false);

CREATE TABLE embed.model_reference (
    model    int NOT NULL,
    revision int NOT NULL,
    text_no  int NOT NULL,
    vector   float4[] NOT NULL,
    PRIMARY KEY (model, revision, text_no)
) WITH (vacuum_truncate = false);

CREATE TABLE embed.model_sweep (
    model    int NOT NULL,
    revision int NOT NULL,
    since    timestamptz NOT NULL,
    horizon  xid8,
    PRIMARY KEY (model, revision)
) WITH (vacuum_truncate = false);
SELECT pg_catalog.pg_extension_config_dump('embed.model_watch', '');
CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON embed.model_watch FOR EACH ROW
    WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated();
ALTER TABLE embed.model_watch ENABLE REPLICA TRIGGER skip_replicated;
SELECT pg_catalog.pg_extension_config_dump('embed.model_reference', '');
CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON embed.model_reference FOR EACH ROW
    WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated();
ALTER TABLE embed.model_reference ENABLE REPLICA TRIGGER skip_replicated;
SELECT pg_catalog.pg_extension_config_dump('embed.model_sweep', '');
CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON embed.model_sweep FOR EACH ROW
    WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated();
ALTER TABLE embed.model_sweep ENABLE REPLICA TRIGGER skip_replicated;

ALTER TABLE embed.generation ADD COLUMN model_revision int NOT NULL DEFAULT 1;
ALTER TABLE embed.cache ADD COLUMN revision int NOT NULL DEFAULT 1;
ALTER TABLE embed.lease ADD COLUMN epoch bigint;
ALTER TABLE embed.change_log_state ADD COLUMN late_since timestamptz;

CREATE TABLE embed.batch (
    id             bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    intent         uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    pipeline       int NOT NULL,
    model          int NOT NULL,
    model_revision int NOT NULL,
    epoch          bigint NOT NULL,
    state          text NOT NULL DEFAULT 'preparing'
        CHECK (state IN ('preparing', 'submitted', 'running', 'collecting', 'done', 'failed', 'expired', 'cancelled')),
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    added_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    is_full        boolean NOT NULL DEFAULT false,
    sealed_at      timestamptz,
    asked_at       timestamptz,
    submitted_at   timestamptz,
    deadline       timestamptz NOT NULL,
    finished_at    timestamptz,
    next_at        timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    attempts       int NOT NULL DEFAULT 0,
    token          bigint,
    expires_at     timestamptz,
    remote_id      text,
    remote_state   text,
    remote_files   text[] NOT NULL DEFAULT '{}',
    remote_outputs text[] NOT NULL DEFAULT '{}',
    remote_succeeded bigint,
    remote_failed  bigint,
    is_collected   boolean NOT NULL DEFAULT false,
    is_clean       boolean NOT NULL DEFAULT false,
    rows           bigint NOT NULL DEFAULT 0,
    texts          bigint NOT NULL DEFAULT 0,
    tokens         bigint NOT NULL DEFAULT 0,
    bytes          bigint NOT NULL DEFAULT 0,
    reserved       bigint NOT NULL DEFAULT 0,
    billed         bigint NOT NULL DEFAULT 0,
    succeeded      bigint NOT NULL DEFAULT 0,
    failed         bigint NOT NULL DEFAULT 0,
    spared         bigint NOT NULL DEFAULT 0,
    cost           float8,
    saved          float8,
    alone_cost     float8,
    last_error     text
) WITH (fillfactor = 50, vacuum_truncate = false);
CREATE UNIQUE INDEX batch_open_idx ON embed.batch (pipeline, model, model_revision)
    WHERE state = 'preparing' AND sealed_at IS NULL AND NOT is_full;
CREATE INDEX batch_due_idx ON embed.batch (next_at) WHERE NOT is_clean;
ALTER TABLE embed.batch ALTER COLUMN last_error SET STATISTICS 0;
CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON embed.batch FOR EACH ROW
    WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated();
ALTER TABLE embed.batch ENABLE REPLICA TRIGGER skip_replicated;
CREATE TABLE embed.batch_text (
    batch  bigint NOT NULL,
    hash   bytea NOT NULL,
    model  int NOT NULL,
    tokens int NOT NULL,
    key    jsonb,
    text   text NOT NULL,
    PRIMARY KEY (batch, hash)
) WITH (
    autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false, toast.vacuum_truncate = false
);
CREATE INDEX batch_text_hash_idx ON embed.batch_text (model, hash);
ALTER TABLE embed.batch_text ALTER COLUMN text SET STATISTICS 0;
CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON embed.batch_text FOR EACH ROW
    WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated();
ALTER TABLE embed.batch_text ENABLE REPLICA TRIGGER skip_replicated;

ALTER TABLE embed.job ADD COLUMN batch bigint;
CREATE INDEX job_batch_idx ON embed.job (batch) WHERE batch > 0;
ALTER TABLE embed.usage ADD COLUMN batch_texts bigint NOT NULL DEFAULT 0;
ALTER TABLE embed.usage ADD COLUMN alone_batch_texts bigint NOT NULL DEFAULT 0;
ALTER TABLE embed.pipeline ADD COLUMN definition text;
ALTER TABLE embed.change_log ADD COLUMN dependency int, ADD COLUMN link jsonb;
ALTER TABLE embed.job ADD COLUMN dependency int;
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
SELECT pg_catalog.pg_extension_config_dump('embed.link_cursor', '');
ALTER TABLE embed.link_cursor ALTER COLUMN last_error SET STATISTICS 0;
CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON embed.link_cursor FOR EACH ROW
    WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated();
ALTER TABLE embed.link_cursor ENABLE REPLICA TRIGGER skip_replicated;
CREATE TABLE embed.dependency (
    id           int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    pipeline     int NOT NULL,
    part         int NOT NULL,
    base         oid NOT NULL,
    base_name    text NOT NULL,
    names        name[],
    attnums      int2[],
    view_names   name[],
    view_attnums int2[],
    via_part     int,
    via_names    name[],
    via_attnums  int2[],
    is_key       boolean NOT NULL DEFAULT false,
    watched_names   name[] NOT NULL,
    watched_attnums int2[] NOT NULL
) WITH (vacuum_truncate = false);
CREATE INDEX dependency_pipeline_idx ON embed.dependency (pipeline);
CREATE INDEX dependency_base_idx ON embed.dependency (base);
SELECT pg_catalog.pg_extension_config_dump('embed.dependency', '');
SELECT pg_catalog.pg_extension_config_dump('embed.dependency_id_seq', '');
CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON embed.dependency FOR EACH ROW
    WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated();
ALTER TABLE embed.dependency ENABLE REPLICA TRIGGER skip_replicated;

CREATE FUNCTION embed.bind_restored_table() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    NEW.base = coalesce(pg_catalog.to_regclass(NEW.base_name)::oid, 0);
    RETURN NEW;
END
$plpgsql$;
CREATE TRIGGER bind_restored BEFORE INSERT ON embed.dependency FOR EACH ROW EXECUTE FUNCTION embed.bind_restored_table();
ALTER TABLE embed.dependency ENABLE ALWAYS TRIGGER bind_restored;

-- ANALYZE copied messages, which may quote texts, and vectors into pg_statistic, where nothing erases them.
DO $do$
DECLARE
    stored record;
BEGIN
    FOR stored IN
        SELECT * FROM (VALUES
            ('embed.maintenance_error', 'message'), ('embed.job', 'last_error'), ('embed.backfill_cursor', 'last_error'),
            ('embed.failure', 'message'), ('embed.cache', 'embedding')) s (name, attribute)
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', stored.name, stored.attribute);
        DELETE FROM pg_statistic s USING pg_attribute a
        WHERE s.starelid = to_regclass(stored.name) AND a.attrelid = s.starelid AND a.attnum = s.staattnum
          AND a.attname = stored.attribute;
    END LOOP;
END
$do$;

-- It fires for more commands.
DROP EVENT TRIGGER evergreen_follow_ddl;
CREATE EVENT TRIGGER evergreen_follow_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE TABLE AS', 'CREATE VIEW', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW',
                 'REFRESH MATERIALIZED VIEW', 'ALTER INDEX', 'ALTER SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN',
                 'ALTER EXTENSION')
    EXECUTE FUNCTION embed.follow_ddl();

@replacements@
