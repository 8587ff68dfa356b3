DO $do$
DECLARE
    ours regclass;
BEGIN
    FOR ours IN SELECT c.oid FROM pg_catalog.pg_class c
                WHERE c.relnamespace = 'embed'::pg_catalog.regnamespace AND c.relkind = 'r' LOOP
        EXECUTE pg_catalog.format(
            'CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW'
            ' WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated()', ours);
        EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE REPLICA TRIGGER skip_replicated', ours);
    END LOOP;
END
$do$;
