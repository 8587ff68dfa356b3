CREATE SEQUENCE embed.token;
COMMENT ON SEQUENCE embed.token IS 'tokens of claims; never used twice';
SELECT pg_catalog.pg_extension_config_dump('embed.token', '');

CREATE TABLE embed.lease (
    token      bigint PRIMARY KEY,
    generation int NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.lease IS
    'claims under way; over when expired, deleted, or when the session advisory lock that its worker holds on the token is free';
SELECT pg_catalog.pg_extension_config_dump('embed.lease', '');

CREATE TABLE embed.inflight (
    model int NOT NULL,
    hash  bytea NOT NULL,
    token bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (model, hash)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.inflight IS 'texts being embedded right now, so that nobody else sends them too';
SELECT pg_catalog.pg_extension_config_dump('embed.inflight', '');
