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
