-- pgvector may live anywhere, and this server's major version has no @extschema:vector@.
SELECT pg_catalog.set_config('search_path', pg_catalog.concat('pg_catalog, ', pg_catalog.quote_ident(n.nspname), ', pg_temp'), true)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'vector';
CREATE TABLE embed.cache (
    model     int NOT NULL,
    hash      bytea NOT NULL,
    embedding vector NOT NULL,
    kept_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    pipeline  int,
    key       jsonb,
    replaced  boolean NOT NULL DEFAULT false,
    PRIMARY KEY (model, hash)
) WITH (
    autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false, toast.vacuum_truncate = false
);
CREATE INDEX cache_kept_at_idx ON embed.cache (kept_at);
CREATE INDEX cache_row_idx ON embed.cache (pipeline, key);
COMMENT ON TABLE embed.cache IS 'vectors of texts no longer live, so that a revert costs nothing; kept for cache_retention, of replaced texts as many as cache_limit';
COMMENT ON COLUMN embed.cache.replaced IS
    'true for the vector of a text that an edit or a delete replaced: cache_limit holds for these, and not for what is yet to be used';
COMMENT ON COLUMN embed.cache.key IS 'the row of the pipeline that had this text last, so that embed_forget finds it; NULL if that is not known';
SELECT pg_catalog.pg_extension_config_dump('embed.cache', '');

SET LOCAL search_path TO pg_catalog, pg_temp;
