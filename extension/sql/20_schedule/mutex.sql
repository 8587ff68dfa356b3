-- No advisory lock: anybody may take one and keep it, and then nothing would be sent to any model.
CREATE TABLE embed.mutex (
    owner  text NOT NULL,
    number int NOT NULL,
    PRIMARY KEY (owner, number)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.mutex IS
    'a row for what sessions share about an endpoint, a model or a pipeline''s budget: locked for an instant by whoever changes it';
SELECT pg_catalog.pg_extension_config_dump('embed.mutex', '');
