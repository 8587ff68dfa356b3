-- Not dumped: what failed on another server says nothing about this one.
CREATE TABLE embed.maintenance_error (
    task       text NOT NULL,
    pipeline   int NOT NULL DEFAULT 0,
    generation int NOT NULL DEFAULT 0,
    failures   int NOT NULL DEFAULT 1,
    sqlstate   text NOT NULL,
    message    text NOT NULL,
    first_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    retry_at   timestamptz NOT NULL,
    PRIMARY KEY (task, pipeline, generation)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.maintenance_error IS
    'maintenance that failed the last time a worker tried it: indexes, retirement, cleaning up; tried again from retry_at on';
COMMENT ON COLUMN embed.maintenance_error.pipeline IS '0: the task belongs to no pipeline';
COMMENT ON COLUMN embed.maintenance_error.generation IS '0: the task belongs to no generation';
COMMENT ON COLUMN embed.maintenance_error.failures IS 'failures in a row';
