-- try_(): nobody who is writing, and no other worker, has the sleepers' lock; see extension/sql/20_schedule/wake.sql
SELECT pg_catalog.pg_try_advisory_lock(1163285066, 0)

-- is_had_by_nobody(): has nobody else the lock for himself alone; shared, so that writers who come meanwhile get it, too
SELECT pg_catalog.pg_try_advisory_xact_lock_shared(1163285066, 0)

-- is_mine(): does this session have it, from the last time
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l
               WHERE l.locktype = 'advisory' AND l.classid = 1163285066::oid AND l.objid = 0::oid
                 AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid = pg_catalog.pg_backend_pid())

-- give_up(): somebody is awake
SELECT pg_catalog.pg_advisory_unlock(1163285066, 0)

-- is_announced(float8): has somebody said to sleep for so many seconds at least
SELECT s.last_value > 1000 * (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) + $1) FROM embed.asleep_until s

-- announce(float8): a worker will sleep for no longer than so many seconds
SELECT pg_catalog.setval('embed.asleep_until', (1000 * (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) + $1))::int8)

-- look(): what the transactions are that the pass to come will see, and whether this session may go on
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text AS seen,
       pg_catalog.pg_try_advisory_xact_lock_shared(1163285067, pg_catalog.pg_backend_pid()) AS undisturbed

-- is_to_stop(): the one who asks this session to come to an end is a worker, too, and not anybody who likes to sit on locks
SELECT embed.held_by_worker(1163285067, pg_catalog.pg_backend_pid())

-- came(int4[], text): was anything committed that the pass did not see: by who came after it, or was at work during it
WITH working AS (
    SELECT p.id FROM embed.pipeline p
    WHERE p.id = ANY ($1) AND p.state = 'active' AND p.broken_reason IS NULL AND (embed.torn(p.id)).what IS NULL)
SELECT EXISTS (SELECT FROM working p JOIN embed.change c ON c.pipeline = p.id
               WHERE c.xid >= pg_catalog.pg_snapshot_xmax($2::pg_catalog.pg_snapshot))
    OR EXISTS (SELECT FROM working p
               CROSS JOIN LATERAL pg_catalog.pg_snapshot_xip($2::pg_catalog.pg_snapshot) x (xid)
               JOIN embed.change c ON c.pipeline = p.id AND c.xid = x.xid)

-- pass_on(): there is more than one worker takes
SELECT pg_catalog.pg_notify('evergreen_more', '')
