-- The only entry points from the caller's privileges to the extension's. They take no argument and run only what the library
-- stored in this backend's memory, which no SQL can write; called by hand, they refuse. lock_timeout: our statements must not
-- queue behind a user's lock, because others would then queue behind us. The other settings give keys one text form and give
-- SQL the meaning it has with PostgreSQL's defaults, whatever the database or role sets.
CREATE FUNCTION @extschema@.embed_elevate() RETURNS void
LANGUAGE plpython3u VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '200ms'
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET "TimeZone" = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
SET standard_conforming_strings = on
SET quote_all_identifiers = off
SET array_nulls = on
SET transform_null_equals = off
SET xmloption = content
AS $python$
@boot@
from evergreen.db import privileges
privileges.run()
$python$;
COMMENT ON FUNCTION @extschema@.embed_elevate() IS
    'internal: runs one step of evergreen''s own code with the extension''s privileges';

CREATE FUNCTION @extschema@.embed_elevate_stable() RETURNS void
LANGUAGE plpython3u STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET "TimeZone" = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
SET standard_conforming_strings = on
SET quote_all_identifiers = off
SET array_nulls = on
SET transform_null_equals = off
SET xmloption = content
AS $python$
@boot@
from evergreen.db import privileges
privileges.run()
$python$;
COMMENT ON FUNCTION @extschema@.embed_elevate_stable() IS
    'internal: like embed_elevate, but read-only and in the calling query''s snapshot';

-- State that an owner's code can leave in the session even after its subtransaction is rolled back: session advisory locks,
-- prepared statements and cursors. The two functions below run around each call of such code. The rollback undoes everything
-- else (settings, temporary tables, LISTEN, NOTIFY, deferred triggers, its own cursors), or a function that runs as its owner
-- cannot do it (SET ROLE, SET SESSION AUTHORIZATION, DISCARD ALL).
-- PL/pgSQL, because it caches the plan: planning took most of the time.
CREATE FUNCTION embed.session_state() RETURNS text[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    RETURN (SELECT coalesce(array_agg(s.entry::text), '{}') FROM (
        SELECT json_build_array('lock', l.classid::bigint, l.objid::bigint, l.objsubid, l.mode) FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.granted AND l.pid = pg_backend_pid()
        UNION ALL
        SELECT json_build_array('prepared statement', p.name, p.prepare_time, p.from_sql, p.parameter_types::text, p.statement)
        FROM pg_prepared_statements p
        UNION ALL
        SELECT json_build_array('cursor', c.name, c.creation_time) FROM pg_cursors c
    ) s (entry));
END
$plpgsql$;
COMMENT ON FUNCTION embed.session_state() IS 'internal: advisory locks, prepared statements and cursors of this session';

CREATE FUNCTION embed.advisory_call(verb text, lock jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT format('SELECT pg_catalog.pg_%s%s(%s)', verb, CASE lock ->> 4 WHEN 'ShareLock' THEN '_shared' ELSE '' END,
                  CASE lock ->> 3 WHEN '1' THEN format('%L::bigint', (p.class << 32) | p.object)
                                  ELSE format('%L::int, %L::int', (p.class # 2147483648) - 2147483648,
                                                                  (p.object # 2147483648) - 2147483648) END)
    FROM (SELECT (lock ->> 1)::bigint, (lock ->> 2)::bigint) p (class, object)
$sql$;
COMMENT ON FUNCTION embed.advisory_call(text, jsonb) IS
    'internal: the advisory_unlock or try_advisory_lock call for a lock from embed.session_state()';

-- Prepared statements of the owner are deallocated, too: under the name of one that the client prepared, they would run as the
-- client. Locks that were released are taken again if they are free.
CREATE FUNCTION embed.restore_session(before text[]) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET client_min_messages = error
SET log_min_messages = error
AS $plpgsql$
DECLARE
    state constant text[] = embed.session_state();
    entry jsonb;
    is_held boolean;
    lost text;
BEGIN
    IF state <@ before AND before <@ state THEN
        RETURN NULL;
    END IF;
    FOR entry IN SELECT s.line::jsonb FROM unnest(state) s (line) WHERE s.line <> ALL (before) LOOP
        IF entry ->> 0 = 'lock' THEN
            LOOP  -- once for each time it was taken
                EXECUTE embed.advisory_call('advisory_unlock', entry) INTO is_held;
                EXIT WHEN is_held IS NOT TRUE;
            END LOOP;
        ELSIF entry ->> 0 = 'prepared statement' THEN
            EXECUTE format('DEALLOCATE %I', entry ->> 1);
        END IF;
    END LOOP;
    FOR entry IN SELECT b.line::jsonb FROM unnest(before) b (line) WHERE b.line <> ALL (state) LOOP
        IF entry ->> 0 = 'lock' THEN
            EXECUTE embed.advisory_call('try_advisory_lock', entry) INTO is_held;
        ELSE
            lost = concat_ws(', ', lost, concat(entry ->> 0, ' ', quote_ident(entry ->> 1)));
        END IF;
    END LOOP;
    RETURN lost;
END
$plpgsql$;
COMMENT ON FUNCTION embed.restore_session(text[]) IS
    'internal: undoes changes since embed.session_state(), and returns the names of what cannot be restored';

-- Called where the extension's owner was refused something.
CREATE FUNCTION embed.report_demoted_owner() RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION 'role % owns extension evergreen and is not a superuser any more', pg_catalog.quote_ident(current_user)
        USING ERRCODE = 'insufficient_privilege',
              HINT = pg_catalog.format('ALTER ROLE %1$I SUPERUSER; or hand all that it owns over: REASSIGN OWNED BY %1$I TO postgres;', current_user);
    END IF;
END
$plpgsql$;
COMMENT ON FUNCTION embed.report_demoted_owner() IS
    'internal: raises an error if the extension''s owner is not a superuser any more';
