CREATE TABLE embed.usage (
    pipeline             int,
    model                int NOT NULL,
    at                   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    folded               boolean NOT NULL DEFAULT false,
    calls                bigint NOT NULL,
    texts                bigint NOT NULL,
    tokens               bigint NOT NULL,
    cost                 double precision,
    saved_by_fingerprint bigint NOT NULL,
    saved_by_cache       bigint NOT NULL,
    saved_by_dedupe      bigint NOT NULL,
    alone_calls          bigint NOT NULL DEFAULT 0,
    alone_texts          bigint NOT NULL DEFAULT 0,
    alone_tokens         bigint NOT NULL DEFAULT 0,
    alone_cost           double precision,
    alone_saved_by_cache bigint NOT NULL DEFAULT 0,
    alone_saved_by_dedupe bigint NOT NULL DEFAULT 0,
    questions            bigint NOT NULL DEFAULT 0
) WITH (vacuum_truncate = false);
CREATE INDEX usage_pipeline_idx ON embed.usage (pipeline, at);
CREATE INDEX usage_unfolded_idx ON embed.usage (at) WHERE NOT folded;
ALTER TABLE embed.usage REPLICA IDENTITY FULL;  -- no key: see embed.change
COMMENT ON TABLE embed.usage IS 'what was sent to models and what was not; a row a batch, folded into a row an hour; only inserted and deleted';
COMMENT ON COLUMN embed.usage.pipeline IS 'NULL: embed() was called with a model that costs money';
COMMENT ON COLUMN embed.usage.alone_texts IS
    'texts that would have been sent without the pipelines of other owners: what roles other than embed_admin are shown, '
    'or they could tell which texts another tenant has. So are the other alone_ columns; tokens are estimates there';
COMMENT ON COLUMN embed.usage.cost IS 'tokens times the model''s price; NULL where no price is known';
SELECT pg_catalog.pg_extension_config_dump('embed.usage', '');
