CREATE FUNCTION embed.lease_end(claim bigint = NULL) RETURNS timestamptz
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT pg_catalog.clock_timestamp()
           + coalesce((SELECT l.outside FROM embed.lease l WHERE l.token = claim),
                      (SELECT s.value FROM embed.setting s WHERE s.name = 'lease')::interval, '5 minutes'::interval)
$sql$;
COMMENT ON FUNCTION embed.lease_end(bigint) IS
    'internal: until when a claim made or renewed now is good: as long as embed_claim was told, else as embed_setting(''lease'') says';

-- Any role may take any advisory lock and keep it, so what such a lock says counts only when a worker has it.
CREATE FUNCTION embed.held_by_worker(class int, number int) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    PERFORM pg_catalog.pg_stat_clear_snapshot();  -- who came since this transaction looked last
    RETURN EXISTS (
        SELECT FROM pg_catalog.pg_locks l
        JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
        JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
          AND l.classid = class::bigint::oid AND l.objid = number::bigint::oid
          AND (pg_catalog.pg_has_role(a.usesysid, 'embed_worker', 'MEMBER')
               OR pg_catalog.has_function_privilege(a.usesysid, '@extschema@.embed_work(text, interval, boolean, int, boolean)', 'EXECUTE')));
END
$plpgsql$;
COMMENT ON FUNCTION embed.held_by_worker(int, int) IS 'internal: has a session that may work this advisory lock';

-- That the lock can be had (shared, to the end of this transaction) is the proof that no worker has it. Somebody else may
-- have taken it when the worker was gone: looked for where the claim is older than most get, as it costs more.
CREATE FUNCTION embed.is_abandoned(token bigint, expires_at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    number constant int = (token & 2147483647)::int;
BEGIN
    RETURN NOT EXISTS (SELECT FROM embed.lease l WHERE l.token = is_abandoned.token AND l.outside IS NOT NULL)
       AND (pg_catalog.pg_try_advisory_xact_lock_shared(1163285062, number)
        OR (expires_at < embed.lease_end() - pg_catalog.make_interval(secs => 5) AND NOT embed.held_by_worker(1163285062, number)));
END
$plpgsql$;
COMMENT ON FUNCTION embed.is_abandoned(bigint, timestamptz) IS 'internal: is the worker of a claim gone; nobody knows it of one outside, before its time is up';

-- How a commit wakes a worker that sleeps. The sleeper holds the advisory lock (1163285066, 0) exclusively. Whoever writes
-- tries to get it shared, and keeps it to the end of his transaction: as long as he has it nobody falls asleep, so what he
-- commits is seen. Who does not get it writes a row with "wake", and asks once more as the last act of his transaction:
-- by then he may get it after all, else he sends NOTIFY, which is what costs (it serialises the commits of the cluster).
-- Any role may hold any advisory lock and keep it. So the sleeper also says in this sequence until when it sleeps, before it
-- takes the lock: where nobody of ours said so NOTIFY is not sent, and work is found by polling, as it is without a sleeper.
CREATE FUNCTION embed.may_notify() RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $sql$
    -- PREPARE TRANSACTION fails after a NOTIFY. Where it is possible at all, NOTIFY is sent by what is a commit and nothing
    -- else: by COMMIT, by the one statement of a transaction, or after it (then there is no query). An apply worker has none
    -- either, and may prepare.
    SELECT pg_notification_queue_usage() < 0.5
       AND current_setting('lock_timeout')::interval NOT BETWEEN '1 ms' AND '999 ms'
       AND (current_setting('max_prepared_transactions') = '0'
            OR (current_setting('session_replication_role') <> 'replica'
                AND coalesce(current_query(), '') !~* 'prepare'
                AND (coalesce(current_query(), '') ~* '^[[:space:]]*((commit|end)([^[:alnum:]_]|$)|$)' OR statement_timestamp() = transaction_timestamp())))
$sql$;
COMMENT ON FUNCTION embed.may_notify() IS
    'internal: can NOTIFY do no harm to the transaction that is about to end: neither a full queue, nor lock_timeout, nor PREPARE';

CREATE FUNCTION embed.wake() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    -- In this order: a sleeper has said that it sleeps before it has the lock.
    IF pg_catalog.pg_try_advisory_xact_lock_shared(1163285066, 0) THEN
        RETURN NULL;
    END IF;
    IF (SELECT s.last_value FROM embed.sleeper_until s) > 1000 * pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())
       AND embed.may_notify() THEN
        -- A commit with a NOTIFY takes a lock, and fails where the table of locks is full: is there room for one?
        IF pg_catalog.pg_try_advisory_lock_shared(1163285066, pg_catalog.pg_backend_pid()) THEN
            PERFORM pg_catalog.pg_advisory_unlock_shared(1163285066, pg_catalog.pg_backend_pid());
            PERFORM pg_catalog.pg_notify('evergreen_wake', '');
        END IF;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN  -- whatever it is, a writer's commit is not to fail for it: workers poll, too
    RETURN NULL;
END
$plpgsql$;
COMMENT ON FUNCTION embed.wake() IS 'internal: wakes the worker that sleeps, by the commit of whoever wrote';

CREATE CONSTRAINT TRIGGER wake AFTER INSERT ON embed.change_log DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.wake) EXECUTE FUNCTION embed.wake();
ALTER TABLE embed.change_log ENABLE ALWAYS TRIGGER wake;
COMMENT ON TRIGGER wake ON embed.change_log IS 'for rows written while a worker slept, at the end of their transaction';

-- Of a long queue a part is looked at, and how long it is the planner says: its figures are as of the last ANALYZE, which
-- autovacuum runs every minute where there is much to do, and the size of the table as of now. (VOLATILE, or EXPLAIN is
-- not allowed.)
CREATE FUNCTION embed.planned_rows(queue text, number int) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    plan json;
BEGIN
    EXECUTE CASE queue
        WHEN 'job' THEN pg_catalog.format('EXPLAIN (FORMAT JSON) SELECT FROM embed.job WHERE generation = %s', number)
        WHEN 'change_log' THEN pg_catalog.format('EXPLAIN (FORMAT JSON) SELECT FROM embed.change_log WHERE pipeline = %s', number)
        WHEN 'failure' THEN pg_catalog.format('EXPLAIN (FORMAT JSON) SELECT FROM embed.failure WHERE generation = %s', number)
    END INTO plan;
    RETURN (plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
END
$plpgsql$;
COMMENT ON FUNCTION embed.planned_rows(text, int) IS 'internal: about how many rows of a queue belong to a generation or a pipeline';
