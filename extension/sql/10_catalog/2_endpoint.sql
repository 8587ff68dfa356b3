CREATE TABLE embed.endpoint (
    name    text PRIMARY KEY,
    url     text NOT NULL,
    secret  text,
    options jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE embed.endpoint IS 'where models are served; written by embed_admin';
COMMENT ON COLUMN embed.endpoint.secret IS 'the name of a secret, never its value';
SELECT pg_catalog.pg_extension_config_dump('embed.endpoint', '');
