-- lock(int4, int4): try to have it, for this subtransaction
SELECT pg_catalog.pg_try_advisory_xact_lock($1, $2)
