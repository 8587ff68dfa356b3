CREATE FUNCTION embed.lease_end(claim bigint = NULL) RETURNS timestamptz
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT pg_catalog.clock_timestamp()
           + coalesce((SELECT l.external_interval FROM embed.lease l WHERE l.token = claim),
                      (SELECT s.value FROM embed.setting s WHERE s.name = 'lease')::interval, '5 minutes'::interval)
$sql$;
COMMENT ON FUNCTION embed.lease_end(bigint) IS
    'internal: when a claim made or renewed now expires: after the lease passed to embed_claim, otherwise after '
    'embed_setting(''lease'')';

-- Any role can take and hold any advisory lock, so a lock counts only if a worker holds it.
CREATE FUNCTION embed.held_by_worker(class int, number int) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    PERFORM pg_catalog.pg_stat_clear_snapshot();  -- include sessions that started since this transaction last looked
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
COMMENT ON FUNCTION embed.held_by_worker(int, int) IS
    'internal: whether a session that may run embed_work holds this advisory lock';

-- If the lock can be taken (shared, until the end of this transaction), no worker holds it. Another session may have taken it
-- after the worker was gone; that check costs more, so it runs only for claims older than most get.
CREATE FUNCTION embed.is_abandoned(token bigint, expires_at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    number constant int = (token & 2147483647)::int;
BEGIN
    RETURN NOT EXISTS (SELECT FROM embed.lease l WHERE l.token = is_abandoned.token AND l.external_interval IS NOT NULL)
       AND (pg_catalog.pg_try_advisory_xact_lock_shared(1163285062, number)
        OR (expires_at < embed.lease_end() - pg_catalog.make_interval(secs => 5) AND NOT embed.held_by_worker(1163285062, number)));
END
$plpgsql$;
COMMENT ON FUNCTION embed.is_abandoned(bigint, timestamptz) IS
    'internal: whether the worker of a claim is gone; never true for an external claim';

-- How a commit wakes a sleeping worker. The sleeper holds the advisory lock (1163285066, 0) exclusively. A writer tries to take
-- it shared and holds it until its transaction ends: meanwhile no worker falls asleep, so its commit is seen. If the writer
-- cannot take it, it writes a row with "wake" and tries again as the last act of its transaction. By then it may succeed;
-- otherwise it sends NOTIFY, the expensive part (NOTIFY serializes the commits of the cluster).
-- Any role can take and hold any advisory lock. So a worker also sets this sequence to the time until which it sleeps, before
-- it takes the lock: if no worker has announced its sleep, no NOTIFY is sent, and polling finds the work, as it does without a
-- sleeper.
CREATE FUNCTION embed.may_notify() RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $sql$
    -- PREPARE TRANSACTION fails after a NOTIFY. If prepared transactions are enabled, NOTIFY is sent only where the end can be
    -- nothing but a commit: in COMMIT, in the only statement of a transaction, or after it (then there is no query). An apply
    -- worker has no query either, and may prepare.
    SELECT pg_notification_queue_usage() < 0.5
       AND current_setting('lock_timeout')::interval NOT BETWEEN '1 ms' AND '999 ms'
       AND (current_setting('max_prepared_transactions') = '0'
            OR (current_setting('session_replication_role') <> 'replica'
                AND coalesce(current_query(), '') !~* 'prepare'
                AND (coalesce(current_query(), '') ~* '^[[:space:]]*((commit|end)([^[:alnum:]_]|$)|$)' OR statement_timestamp() = transaction_timestamp())))
$sql$;
COMMENT ON FUNCTION embed.may_notify() IS
    'internal: whether NOTIFY is harmless to the transaction that is about to end: no full queue, no lock_timeout, no PREPARE';

CREATE FUNCTION embed.wake() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    -- In this order: a sleeper announces its sleep before it takes the lock.
    IF pg_catalog.pg_try_advisory_xact_lock_shared(1163285066, 0) THEN
        RETURN NULL;
    END IF;
    IF (SELECT s.last_value FROM embed.sleeper_until s) > 1000 * pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())
       AND embed.may_notify() THEN
        -- A commit with a NOTIFY takes a lock, and fails if the lock table is full: check that there is room for one.
        IF pg_catalog.pg_try_advisory_lock_shared(1163285066, pg_catalog.pg_backend_pid()) THEN
            PERFORM pg_catalog.pg_advisory_unlock_shared(1163285066, pg_catalog.pg_backend_pid());
            PERFORM pg_catalog.pg_notify('evergreen_wake', '');
        END IF;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN  -- no error may fail a writer's commit: workers poll, too
    RETURN NULL;
END
$plpgsql$;
COMMENT ON FUNCTION embed.wake() IS 'internal: trigger, wakes the sleeping worker when a writer commits';

CREATE CONSTRAINT TRIGGER wake AFTER INSERT ON embed.change_log DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.wake) EXECUTE FUNCTION embed.wake();
ALTER TABLE embed.change_log ENABLE ALWAYS TRIGGER wake;
COMMENT ON TRIGGER wake ON embed.change_log IS 'for rows written while a worker was asleep, at the end of their transaction';

-- Views examine part of a long queue, and the planner estimates its length from the last ANALYZE, which autovacuum runs every
-- minute on a busy table, and the table's current size. (VOLATILE, because EXPLAIN is not allowed otherwise.)
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
COMMENT ON FUNCTION embed.planned_rows(text, int) IS 'internal: approximate number of queue rows of a generation or a pipeline';
