-- What stands in these tables is about this database. A publication FOR ALL TABLES of another server with the extension
-- carries its tables too: applied here, its rows would collide with ours (built-in models: unique violation, and the copy
-- never ends) or overwrite them. So whatever a subscription's worker writes into a table of ours is skipped.
-- ENABLE REPLICA: ordinary sessions do not fire it. A restore under session_replication_role = replica does, and has no
-- replication origin. Depth 0: what our triggers on a source write for the worker is kept.
CREATE FUNCTION embed.skip_replicated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    IF pg_catalog.pg_replication_origin_session_is_setup() THEN
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END
$plpgsql$;
COMMENT ON FUNCTION embed.skip_replicated() IS 'internal: keeps rows of another server''s evergreen out of the tables of this one';

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

-- Generation tables get the trigger only where there is a subscription: with it COPY inserts rows one by one.
CREATE FUNCTION embed.guard_generation(generation int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    ours constant regclass = pg_catalog.to_regclass('embed_store.g' || generation);
BEGIN
    IF ours IS NULL
       OR NOT EXISTS (SELECT FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
                      WHERE d.datname = pg_catalog.current_database())
       OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = ours AND t.tgname = 'skip_replicated') THEN
        RETURN;
    END IF;
    EXECUTE pg_catalog.format(
        'CREATE TRIGGER skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW'
        ' WHEN (pg_catalog.pg_trigger_depth() = 0) EXECUTE FUNCTION embed.skip_replicated()', ours);
    EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE REPLICA TRIGGER skip_replicated', ours);
END
$plpgsql$;
COMMENT ON FUNCTION embed.guard_generation(int) IS 'internal: keeps a subscription''s rows out of a generation table';

CREATE FUNCTION embed.follow_subscription() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $plpgsql$
BEGIN
    PERFORM embed.guard_generation(g.id) FROM embed.generation g;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'evergreen could not keep the rows of this subscription out of its tables in embed_store: %', SQLERRM
        USING HINT = 'ALTER SUBSCRIPTION ... REFRESH PUBLICATION tries again.';
END
$plpgsql$;
COMMENT ON FUNCTION embed.follow_subscription() IS 'internal: event trigger, guards the generation tables of a subscriber';

CREATE EVENT TRIGGER evergreen_follow_subscription ON ddl_command_end
    WHEN TAG IN ('CREATE SUBSCRIPTION', 'ALTER SUBSCRIPTION')
    EXECUTE FUNCTION embed.follow_subscription();
COMMENT ON EVENT TRIGGER evergreen_follow_subscription IS 'evergreen: keeps another server''s rows out of its tables';
ALTER EVENT TRIGGER evergreen_follow_subscription ENABLE ALWAYS;
