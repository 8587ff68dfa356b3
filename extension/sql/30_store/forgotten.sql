CREATE TABLE embed.forgotten (
    model        int NOT NULL,
    hash         bytea NOT NULL,
    forgotten_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (model, hash)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.forgotten IS
    'hashes of texts that embed_forget erased: for a day their vectors are not kept, however late a worker comes with one';

-- Stands at the table, not at those who write to it: every way into the cache is refused.
CREATE FUNCTION embed.refuse_forgotten() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    IF EXISTS (SELECT FROM embed.forgotten f
               WHERE f.model = NEW.model AND f.hash = NEW.hash
                 AND f.forgotten_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(days => 1)) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END
$plpgsql$;
COMMENT ON FUNCTION embed.refuse_forgotten() IS 'internal: keeps the vectors of erased texts out of the cache';
CREATE TRIGGER refuse_forgotten BEFORE INSERT ON embed.cache FOR EACH ROW EXECUTE FUNCTION embed.refuse_forgotten();
ALTER TABLE embed.cache ENABLE ALWAYS TRIGGER refuse_forgotten;  -- also under session_replication_role = replica
