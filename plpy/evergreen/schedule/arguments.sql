-- isolation(): the isolation level of this transaction
SELECT pg_catalog.current_setting('transaction_isolation')

-- seconds(text): an interval in seconds
SELECT pg_catalog.date_part('epoch', $1::pg_catalog.interval)
