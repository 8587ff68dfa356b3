-- take_slot(int4): one session at a time works in a slot
SELECT pg_catalog.pg_try_advisory_lock(1163285063, $1)

-- slot_is_taken(int4): by a worker, and not by anybody who likes to sit on locks
SELECT embed.held_by_worker(1163285063, $1)

-- let_go(): this session gives up every claim (62) and slot (63) that it has, also one that a cancel came upon, and wakes
-- up (66). Runs with the caller's search_path, so every name is qualified.
SELECT pg_catalog.pg_advisory_unlock(l.classid::pg_catalog.int4, l.objid::pg_catalog.int4)
FROM pg_catalog.pg_locks l
WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory'::pg_catalog.text
  AND (l.classid OPERATOR(pg_catalog.=) 1163285062::pg_catalog.oid OR l.classid OPERATOR(pg_catalog.=) 1163285063::pg_catalog.oid
       OR l.classid OPERATOR(pg_catalog.=) 1163285066::pg_catalog.oid)
  AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'::pg_catalog.text
  AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.granted
