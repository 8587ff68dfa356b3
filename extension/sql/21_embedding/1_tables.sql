-- No advisory lock: anybody may take one and keep it, and then nothing would be sent to any model.
CREATE TABLE embed.shared_state_lock (
    owner  text NOT NULL,
    number int NOT NULL,
    PRIMARY KEY (owner, number)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.shared_state_lock IS
    'a row for what sessions share about an endpoint, a model or a pipeline''s budget: locked for an instant by whoever changes it';
SELECT pg_catalog.pg_extension_config_dump('embed.shared_state_lock', '');

CREATE TABLE embed.suspect (
    model   int NOT NULL,
    hash    bytea NOT NULL,
    refused boolean NOT NULL,
    last_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (model, hash)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.suspect IS 'texts that made a request fail for all its texts: whatever row has them, they are sent alone';
COMMENT ON COLUMN embed.suspect.refused IS 'the server said that it would not take it; otherwise the request failed without a word about the text';
SELECT pg_catalog.pg_extension_config_dump('embed.suspect', '');
