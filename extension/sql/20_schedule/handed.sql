CREATE TABLE embed.handed (
    token  bigint NOT NULL,
    hash   bytea NOT NULL,
    key    jsonb NOT NULL,
    tokens int NOT NULL,
    came   boolean NOT NULL DEFAULT false
) WITH (vacuum_truncate = false);
CREATE INDEX handed_token_idx ON embed.handed (token, hash);
ALTER TABLE embed.handed REPLICA IDENTITY FULL;  -- no key: see embed.change
COMMENT ON TABLE embed.handed IS
    'texts that embed_claim handed out and the rows that need them, until the claim is over, or an hour after its time was up';
COMMENT ON COLUMN embed.handed.hash IS
    'of a text; empty for a row of the claim that another session had locked when nothing was left to be done for it';
COMMENT ON COLUMN embed.handed.tokens IS 'as estimated, and taken out of a daily budget';
COMMENT ON COLUMN embed.handed.came IS 'whether its vector came';
SELECT pg_catalog.pg_extension_config_dump('embed.handed', '');
