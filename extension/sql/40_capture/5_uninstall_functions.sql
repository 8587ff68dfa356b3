-- Reports what DROP EXTENSION leaves behind on purpose. It runs before the drop, because afterwards none of our code remains.
-- It runs with the privileges of the role that drops, and stays silent if that role may not drop. It only warns, so misreading
-- another command does no harm.
CREATE FUNCTION embed.warn_of_leftovers() RETURNS event_trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    -- Without comments. Extension names may be quoted, and one command may list several.
    command text = regexp_replace(current_query(), '/[*].*?[*]/|--[^' || chr(10) || ']*', ' ', 'g');
    name text = '[[:space:]]*("[^"]+"|[[:alnum:]_$]+)[[:space:]]*';
    dropping text = 'drop[[:space:]]+extension[[:space:]]+(if[[:space:]]+exists[[:space:]]+)?(' || name || ',)*[[:space:]]*"?evergreen"?([[:space:]]|,|;|$)';
    vectors record;
    jobs bigint = 0;
    left_behind text[];
    typed text[];
BEGIN
    IF command !~* dropping
       OR NOT (SELECT pg_has_role(current_user, e.extowner, 'USAGE') FROM pg_extension e WHERE e.extname = 'evergreen')
       OR (command !~* 'cascade' AND to_regclass('embed_store.g' || (SELECT max(g.id) FROM embed.generation g)) IS NOT NULL) THEN
        RETURN;  -- not ours, not allowed, or rejected because pipelines exist
    END IF;
    SELECT count(*) AS tables, pg_size_pretty(sum(pg_table_size(c.oid))) AS size INTO vectors
    FROM pg_class c
    WHERE c.relnamespace = to_regnamespace('embed_store') AND c.relkind = 'r';
    IF to_regclass('cron.job') IS NOT NULL AND has_table_privilege('cron.job', 'SELECT') THEN
        EXECUTE $sql$SELECT count(*) FROM cron.job j WHERE j.database = pg_catalog.current_database() AND starts_with(j.jobname, 'evergreen ')$sql$
        INTO jobs;
    END IF;
    IF jobs > 0 THEN
        left_behind = left_behind || format('%s pg_cron jobs', jobs);
        typed = typed || $sql$SELECT cron.unschedule(jobid) FROM cron.job WHERE database = current_database() AND starts_with(jobname, 'evergreen ');$sql$::text;
    END IF;
    IF to_regnamespace('embed_store') IS NOT NULL THEN
        left_behind = left_behind || CASE vectors.tables WHEN 0 THEN 'schema embed_store'
            ELSE format('schema embed_store with the texts and vectors of %s generation%s (%s)',
                        vectors.tables, CASE WHEN vectors.tables > 1 THEN 's' END, vectors.size) END;
        typed = typed || 'DROP SCHEMA embed_store CASCADE;'::text;
    END IF;
    left_behind = left_behind || 'roles embed_admin, embed_worker, embed_user of the whole cluster'::text;
    typed = typed || 'DROP ROLE embed_admin, embed_worker, embed_user;'::text;
    IF vectors.tables > 0 OR jobs > 0 THEN
        RAISE WARNING 'DROP EXTENSION evergreen leaves behind: %', array_to_string(left_behind, '; ')
            USING HINT = array_to_string(typed, ' ');
    ELSE
        RAISE NOTICE 'DROP EXTENSION evergreen leaves behind: %', array_to_string(left_behind, '; ')
            USING HINT = array_to_string(typed, ' ');
    END IF;
EXCEPTION WHEN insufficient_privilege OR undefined_table OR invalid_schema_name THEN
    RETURN;
END
$plpgsql$;
COMMENT ON FUNCTION embed.warn_of_leftovers() IS
    'internal: event trigger, reports before DROP EXTENSION what it leaves behind and how to remove it';

-- Once the extension is dropped none of its code runs, and a slot without a reader fills the disk. Before a command it is
-- unknown whether it drops the extension, and after it our event triggers are gone as well. So a temporary table with a
-- deferred trigger checks at the end of the transaction; a rollback undoes it. Only if there is a slot, and the role can drop
-- the extension, or the schema of the extension or of one it requires.
CREATE FUNCTION embed.drop_slot_with_extension() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on
SET client_min_messages = warning
AS $plpgsql$
DECLARE
    slot constant name = embed.slot_name();
    number constant text = pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', '');
    called_from text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = slot)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication u WHERE u.pubname = 'evergreen_cdc') THEN
        RETURN;
    END IF;
    GET DIAGNOSTICS called_from = PG_CONTEXT;
    -- Inside a function the command may run with any role's privileges.
    IF pg_catalog.strpos(called_from, pg_catalog.chr(10)) = 0 AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
        JOIN pg_catalog.pg_roles r ON r.rolname IN (session_user, pg_catalog.current_setting('role'))
        WHERE e.extname IN ('evergreen', 'vector', 'plpython3u')
          AND (pg_catalog.pg_has_role(r.oid, e.extowner, 'USAGE') OR pg_catalog.pg_has_role(r.oid, n.nspowner, 'USAGE'))) THEN
        RETURN;
    END IF;
    EXECUTE pg_catalog.format('CREATE TEMPORARY TABLE evergreen_end_%s () ON COMMIT DROP', number);
    EXECUTE pg_catalog.format(
        'CREATE FUNCTION pg_temp.evergreen_end_%s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER'
        ' SET search_path = pg_catalog, pg_temp AS %L', number, pg_catalog.format($body$
        BEGIN
            IF EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'evergreen') THEN
                RETURN NULL;
            END IF;
            DROP PUBLICATION IF EXISTS evergreen_cdc;
            FOR attempt IN 1 .. 50 LOOP
                BEGIN
                    PERFORM pg_catalog.pg_drop_replication_slot(s.slot_name)
                    FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = %1$L;
                    EXIT;
                EXCEPTION WHEN object_in_use THEN  -- a worker is reading it
                    IF attempt = 50 THEN
                        RAISE;
                    END IF;
                    PERFORM pg_catalog.pg_sleep(0.1);
                END;
            END LOOP;
            RETURN NULL;
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'evergreen could not drop its replication slot %1$s: %%', SQLERRM
                USING HINT = 'SELECT pg_drop_replication_slot(' || %2$L || '); DROP PUBLICATION IF EXISTS evergreen_cdc;';
            RETURN NULL;
        END
        $body$, slot, pg_catalog.quote_literal(slot)));
    EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION pg_temp.evergreen_end_%s() FROM PUBLIC', number);
    EXECUTE pg_catalog.format(
        'CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON evergreen_end_%1$s DEFERRABLE INITIALLY DEFERRED'
        ' FOR EACH ROW EXECUTE FUNCTION pg_temp.evergreen_end_%1$s()', number);
    EXECUTE pg_catalog.format('ALTER TABLE evergreen_end_%s ENABLE ALWAYS TRIGGER at_commit', number);
    EXECUTE pg_catalog.format('INSERT INTO evergreen_end_%s DEFAULT VALUES', number);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'evergreen could not prepare to drop its replication slot %: %', slot, SQLERRM
        USING HINT = 'If the extension goes: SELECT pg_drop_replication_slot(...); DROP PUBLICATION evergreen_cdc;';
END
$plpgsql$;
COMMENT ON FUNCTION embed.drop_slot_with_extension() IS
    'internal: event trigger, drops the replication slot with the extension';
