\echo Use "ALTER EXTENSION evergreen UPDATE" to load this file. \quit

-- As in the install script: no name resolves to a user's object.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- These have more arguments now. A view of the user's that calls one has to be dropped first, and made again.
DROP FUNCTION @extschema@.embed_search(text, text, int, text, text, int, float8);
DROP FUNCTION @extschema@.embed_search_rows(anyelement, text, int, text);
DROP FUNCTION @extschema@.embed_search_rows_typed(anyelement, text, int, text);
DROP FUNCTION @extschema@.embed_search_rows_sql(regclass, text, int, text);
-- This one returns one more column.
DROP FUNCTION @extschema@.embed_claim(text, int, interval, text);

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

@replacements@
