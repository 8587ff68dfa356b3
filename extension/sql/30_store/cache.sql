CREATE TABLE embed.cache (
    model     int NOT NULL,
    hash      bytea NOT NULL,
    embedding vector NOT NULL,
    kept_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (model, hash)
) WITH (vacuum_truncate = false);
CREATE INDEX cache_kept_at_idx ON embed.cache (kept_at);
COMMENT ON TABLE embed.cache IS 'vectors of texts no longer live, so that a revert costs nothing; kept for cache_retention';
SELECT pg_catalog.pg_extension_config_dump('embed.cache', '');
