-- limits(): what is left to this statement and this transaction, in seconds; NULL where nothing limits them, or the session's own SET does
WITH setting AS (
    SELECT (SELECT pg_catalog.date_part('epoch', pg_catalog.current_setting('statement_timeout')::interval)
            WHERE pg_catalog.current_setting('statement_timeout') <> '0'
              AND (SELECT s.source FROM pg_catalog.pg_settings s WHERE s.name = 'statement_timeout') <> 'session') AS statement,
           (SELECT pg_catalog.date_part('epoch', pg_catalog.current_setting('transaction_timeout', true)::interval)
            WHERE pg_catalog.current_setting('transaction_timeout', true) <> '0') AS transaction
)
SELECT statement - pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp()) AS statement_left,
       statement + pg_catalog.date_part('epoch', pg_catalog.statement_timestamp()) AS due_at,
       transaction - pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.transaction_timestamp()) AS transaction_left
FROM setting
