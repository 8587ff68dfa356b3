-- default_isolation(): what the next transaction will be
SELECT pg_catalog.current_setting('default_transaction_isolation')

-- set_default_isolation(text): for the transactions of this session from the next on
SELECT pg_catalog.set_config('default_transaction_isolation', $1, false)

-- take_slot(int4): one session at a time works in a slot
SELECT pg_catalog.pg_try_advisory_lock(1163285063, $1)

-- free_slot(int4): the slot is free again
SELECT pg_catalog.pg_advisory_unlock(1163285063, $1)
