-- What DROP EXTENSION leaves on purpose, said before it goes: afterwards nothing of ours is there to say it. Runs with the
-- rights of whoever drops, and is silent where that role may not. It only talks, so a command that it takes for another is
-- no harm.
CREATE FUNCTION embed.farewell() RETURNS event_trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    -- Without comments; names of extensions may be quoted, and several in one command.
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
        RETURN;  -- not ours, not allowed, or refused because there are pipelines
    END IF;
    SELECT count(*) AS tables, pg_size_pretty(sum(greatest(c.relpages, 0)::int8 + coalesce(t.relpages, 0)) * 8192) AS size INTO vectors
    FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
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
            ELSE format('schema embed_store with the texts and vectors of %s generations (%s)', vectors.tables, vectors.size) END;
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
COMMENT ON FUNCTION embed.farewell() IS 'internal: event trigger, says before DROP EXTENSION what it leaves and how to remove that';

CREATE EVENT TRIGGER evergreen_farewell ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION')
    EXECUTE FUNCTION embed.farewell();
COMMENT ON EVENT TRIGGER evergreen_farewell IS 'evergreen: says what DROP EXTENSION leaves behind';
ALTER EVENT TRIGGER evergreen_farewell ENABLE ALWAYS;
