CREATE SEQUENCE embed.token;
COMMENT ON SEQUENCE embed.token IS 'tokens of claims; never used twice';
SELECT pg_catalog.pg_extension_config_dump('embed.token', '');

CREATE FUNCTION embed.lease_end() RETURNS timestamptz
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT pg_catalog.clock_timestamp()
           + coalesce((SELECT s.value FROM embed.setting s WHERE s.name = 'lease'), '5 minutes')::interval
$sql$;
COMMENT ON FUNCTION embed.lease_end() IS 'internal: until when a claim made or renewed now is good; embed_setting(''lease'') says how long';

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
