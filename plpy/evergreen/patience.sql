-- lock_timeout(text): how long the next statements of this step may wait for a lock
SELECT pg_catalog.set_config('lock_timeout', $1, true)
