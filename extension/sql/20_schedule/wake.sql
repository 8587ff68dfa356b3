-- How a commit wakes a worker that sleeps. The sleeper holds the advisory lock (1163285066, 0) exclusively. Whoever writes
-- tries to get it shared, and keeps it to the end of his transaction: as long as he has it nobody falls asleep, so what he
-- commits is seen. Who does not get it writes a row with "wake", and asks once more as the last act of his transaction:
-- by then he may get it after all, else he sends NOTIFY, which is what costs (it serialises the commits of the cluster).
-- Any role may hold any advisory lock and keep it. So the sleeper also says in this sequence until when it sleeps, before it
-- takes the lock: where nobody of ours said so NOTIFY is not sent, and work is found by polling, as it is without a sleeper.
CREATE SEQUENCE embed.asleep_until MINVALUE 0 START 0;
COMMENT ON SEQUENCE embed.asleep_until IS
    'until when a worker sleeps and wants to be woken, in milliseconds since 1970; a sequence, because it is read at once by all';

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
    IF (SELECT s.last_value FROM embed.asleep_until s) > 1000 * pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())
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

CREATE CONSTRAINT TRIGGER wake AFTER INSERT ON embed.change DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.wake) EXECUTE FUNCTION embed.wake();
ALTER TABLE embed.change ENABLE ALWAYS TRIGGER wake;
COMMENT ON TRIGGER wake ON embed.change IS 'for rows written while a worker slept, at the end of their transaction';
