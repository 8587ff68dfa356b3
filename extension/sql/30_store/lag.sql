CREATE TABLE embed.lag (
    pipeline int NOT NULL,
    at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    lane     int2 NOT NULL,
    folded   boolean NOT NULL DEFAULT false,
    buckets  int2[] NOT NULL,
    counts   bigint[] NOT NULL
) WITH (vacuum_truncate = false);
CREATE INDEX lag_pipeline_idx ON embed.lag (pipeline, at);
CREATE INDEX lag_unfolded_idx ON embed.lag (at) WHERE NOT folded;
ALTER TABLE embed.lag REPLICA IDENTITY FULL;  -- no key: see embed.change
COMMENT ON TABLE embed.lag IS
    'how long changes took to be searchable: histograms, a row a batch, folded into a row a minute, kept for an hour; only inserted and deleted';
COMMENT ON COLUMN embed.lag.lane IS 'as in embed.job: 0 live, 1 backfill, which bulk changes go through';
COMMENT ON COLUMN embed.lag.buckets IS 'bucket b holds what took up to 2 ^ (b / 4) milliseconds and more than bucket b - 1 holds: four to a doubling';
SELECT pg_catalog.pg_extension_config_dump('embed.lag', '');
