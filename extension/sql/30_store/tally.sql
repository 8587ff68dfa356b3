-- How many documents there are, kept as they come and go: counting ten million is seconds, and embed_status is polled.
-- Rows are only added, so that nobody waits for anybody; workers add up what is committed. Not dumped: a restore adds the
-- documents again, and counts them; where triggers are disabled meanwhile, the first worker counts what is there.
CREATE TABLE embed.tally (
    generation int NOT NULL,
    documents  bigint NOT NULL
) WITH (
    autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
);
CREATE INDEX tally_generation_idx ON embed.tally (generation);
ALTER TABLE embed.tally REPLICA IDENTITY FULL;  -- no key: see embed.change
COMMENT ON TABLE embed.tally IS 'documents of a generation: the sum over its rows';

CREATE FUNCTION embed.count_documents() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    INSERT INTO embed.tally (generation, documents)
    SELECT m.generation, CASE TG_OP WHEN 'INSERT' THEN count(*) ELSE -count(*) END FROM moved m GROUP BY m.generation;
    RETURN NULL;
END
$plpgsql$;
COMMENT ON FUNCTION embed.count_documents() IS 'internal: trigger, keeps embed.tally';

CREATE TRIGGER tally_insert AFTER INSERT ON embed.document REFERENCING NEW TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION embed.count_documents();
CREATE TRIGGER tally_delete AFTER DELETE ON embed.document REFERENCING OLD TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION embed.count_documents();
ALTER TABLE embed.document ENABLE ALWAYS TRIGGER tally_insert, ENABLE ALWAYS TRIGGER tally_delete;

-- Whoever empties the table has the documents counted. When a worker adds rows up a row of each generation is left.
CREATE FUNCTION embed.recount_documents() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    INSERT INTO embed.tally (generation, documents)
    SELECT g.id, count(*) FROM embed.generation g JOIN embed.document d ON d.generation = g.id
    WHERE NOT EXISTS (SELECT FROM embed.tally t WHERE t.generation = g.id) GROUP BY g.id;
    RETURN NULL;
END
$plpgsql$;
COMMENT ON FUNCTION embed.recount_documents() IS 'internal: trigger, counts the documents of generations of which embed.tally has no row';

CREATE TRIGGER recount AFTER DELETE OR TRUNCATE ON embed.tally FOR EACH STATEMENT EXECUTE FUNCTION embed.recount_documents();
ALTER TABLE embed.tally ENABLE ALWAYS TRIGGER recount;
