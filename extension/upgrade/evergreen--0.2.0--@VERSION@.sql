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
    measured_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
) WITH (vacuum_truncate = false);
CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON embed.index_recall FOR EACH ROW
    WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated();
ALTER TABLE embed.index_recall ENABLE REPLICA TRIGGER skip_replicated;

@replacements@
