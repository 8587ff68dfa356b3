-- touch(int4, jsonb[], bool): marks keys to be checked; the first wakes a worker that sleeps, as the capture function does
INSERT INTO embed.change (pipeline, key, wake)
SELECT $1, k.key, CASE WHEN k.ord = 1 AND $3 AND NOT pg_catalog.pg_try_advisory_xact_lock_shared(1163285066, 0) THEN true END
FROM pg_catalog.unnest($2) WITH ORDINALITY k (key, ord)

-- touch_all(int4): marks every row to be checked
INSERT INTO embed.change (pipeline, scope) VALUES ($1, 'source')
