CREATE TABLE embed.setting (
    name  text PRIMARY KEY,
    value text NOT NULL
);
COMMENT ON TABLE embed.setting IS 'settings of this database that differ from the built-in defaults';
SELECT pg_catalog.pg_extension_config_dump('embed.setting', '');
