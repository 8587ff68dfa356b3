-- Not an advisory lock: any role could hold it, and nothing would be sent to any model.
CREATE TABLE embed.shared_state_lock (
    owner  text NOT NULL,
    number int NOT NULL,
    PRIMARY KEY (owner, number)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.shared_state_lock IS
    'one row for the state that sessions share about an endpoint, a model or a pipeline''s budget; locked briefly by the '
    'session that changes it';
SELECT pg_catalog.pg_extension_config_dump('embed.shared_state_lock', '');

CREATE TABLE embed.suspect (
    model   int NOT NULL,
    hash    bytea NOT NULL,
    refused boolean NOT NULL,
    last_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (model, hash)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.suspect IS 'texts that made a whole request fail: they are sent alone, whichever row contains them';
COMMENT ON COLUMN embed.suspect.refused IS
    'true: the server refused the text; false: the request failed without mentioning the text';
SELECT pg_catalog.pg_extension_config_dump('embed.suspect', '');
