\echo Use "ALTER EXTENSION evergreen UPDATE" to load this file. \quit

-- As in the install script: no name resolves to a user's object.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- These have more arguments now. A view of the user's that calls one has to be dropped first, and made again.
DROP FUNCTION @extschema@.embed_search(text, text, int, text, text, int, float8);
DROP FUNCTION @extschema@.embed_search_rows(anyelement, text, int, text);
DROP FUNCTION @extschema@.embed_search_rows_typed(anyelement, text, int, text);
DROP FUNCTION @extschema@.embed_search_rows_sql(regclass, text, int, text);

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

@replacements@
