-- lock(int4, int4): try to have it, for this session
SELECT pg_catalog.pg_try_advisory_lock($1, $2)

-- unlock(int4, int4): give it back
SELECT pg_catalog.pg_advisory_unlock($1, $2)
