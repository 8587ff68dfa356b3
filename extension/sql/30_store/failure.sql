CREATE TABLE embed.failure (
    generation int NOT NULL,
    key        jsonb NOT NULL,
    class      text NOT NULL CHECK (class IN ('retryable', 'permanent', 'configuration')),
    message    text NOT NULL,
    attempts   int NOT NULL,
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    PRIMARY KEY (generation, key)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.failure IS 'dead letters: keys given up on until they change or are touched';
SELECT pg_catalog.pg_extension_config_dump('embed.failure', '');
