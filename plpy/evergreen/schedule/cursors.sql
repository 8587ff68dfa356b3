-- lock(int4, text): the cursor, if it runs and nobody moves it. NO KEY, here and below: see hold_round in apply/write.sql
SELECT s.position::pg_catalog.text AS position FROM embed.scan s
WHERE s.generation = $1 AND s.scope = $2 AND s.running FOR NO KEY UPDATE SKIP LOCKED

-- wait(int4, text): as lock, behind whoever moves it
SELECT s.position::pg_catalog.text AS position FROM embed.scan s
WHERE s.generation = $1 AND s.scope = $2 AND s.running FOR NO KEY UPDATE

-- move(int4, text, jsonb, bool): where it stands now; it stops at the end
UPDATE embed.scan SET position = $3, running = $4, last_error = NULL WHERE generation = $1 AND scope = $2

-- look(int4, text): where the cursor stands, if it runs
SELECT s.position::pg_catalog.text AS position, s.round FROM embed.scan s
WHERE s.generation = $1 AND s.scope = $2 AND s.running

-- move_from(int4, text, jsonb, bool, jsonb, int8): as move, if it still stands where it stood ($5) in this round
UPDATE embed.scan SET position = $3, running = $4, last_error = NULL
WHERE ctid = ANY (ARRAY(SELECT s.ctid FROM embed.scan s
                        WHERE s.generation = $1 AND s.scope = $2 AND s.running AND s.position IS NOT DISTINCT FROM $5
                          AND s.round = $6
                        FOR NO KEY UPDATE SKIP LOCKED))

-- not_embedded(int4, jsonb[]): of these keys, those without a document
SELECT u.key::pg_catalog.text AS key FROM unnest($2) WITH ORDINALITY u (key, ord)
WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.key = u.key)
ORDER BY u.ord

-- fail(int4, text, text): why it does not move on
UPDATE embed.scan SET last_error = $3
WHERE ctid = ANY (ARRAY(SELECT s.ctid FROM embed.scan s WHERE s.generation = $1 AND s.scope = $2 FOR NO KEY UPDATE SKIP LOCKED))

-- stored_keys(int4, jsonb, int4): documents in key order
SELECT d.key::pg_catalog.text AS key FROM embed.document d
WHERE d.generation = $1 AND ($2 IS NULL OR d.key > $2) ORDER BY d.key LIMIT $3

-- queue_claimed(int4, jsonb[], int8): jobs of the backfill lane that are claimed from the start
INSERT INTO embed.job (generation, key, lane, token, ready_at)
SELECT $1, k.key, 1, $3, (SELECT embed.lease_end($3))
FROM pg_catalog.unnest($2) k (key)
WHERE pg_catalog.pg_column_size(k.key) <= 2600
ON CONFLICT DO NOTHING
RETURNING key::pg_catalog.text AS key, lane, changes, attempts, changed_at::pg_catalog.text AS changed_at

-- log(int4, jsonb[]): keys that are queued already are looked at again after whoever has them
INSERT INTO embed.change (pipeline, key) SELECT $1, k.key FROM pg_catalog.unnest($2) k (key)
