-- lock(int4, text): the cursor, if it runs and nobody moves it. NO KEY, here and below: see hold_round in apply/write.sql
SELECT s.position::pg_catalog.text AS position FROM embed.scan s
WHERE s.generation = $1 AND s.scope = $2 AND s.running FOR NO KEY UPDATE SKIP LOCKED

-- wait(int4, text): as lock, behind whoever moves it
SELECT s.position::pg_catalog.text AS position FROM embed.scan s
WHERE s.generation = $1 AND s.scope = $2 AND s.running FOR NO KEY UPDATE

-- move(int4, text, jsonb, bool, int8): where it stands now, so many keys further; it stops at the end
-- Moves are at most half a minute apart while somebody works (model/quota.py): a longer time is one in which nobody did.
UPDATE embed.scan s
SET position = $3, running = $4, last_error = NULL, walked = s.walked + $5, moved_at = pg_catalog.clock_timestamp(),
    worked = s.worked + least(pg_catalog.clock_timestamp() - coalesce(s.moved_at, s.started_at), '1 minute')
WHERE s.generation = $1 AND s.scope = $2

-- look(int4, text): where the cursor stands, if it runs
SELECT s.position::pg_catalog.text AS position, s.round FROM embed.scan s
WHERE s.generation = $1 AND s.scope = $2 AND s.running

-- move_from(int4, text, jsonb, bool, int8, jsonb, int8): as move, if it still stands where it stood ($6) in this round
UPDATE embed.scan s
SET position = $3, running = $4, last_error = NULL, walked = s.walked + $5, moved_at = pg_catalog.clock_timestamp(),
    worked = s.worked + least(pg_catalog.clock_timestamp() - coalesce(s.moved_at, s.started_at), '1 minute')
WHERE s.ctid = ANY (ARRAY(SELECT o.ctid FROM embed.scan o
                          WHERE o.generation = $1 AND o.scope = $2 AND o.running AND o.position IS NOT DISTINCT FROM $6
                            AND o.round = $7
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
RETURNING key::pg_catalog.text AS key, lane, changes, attempts, changed_at::pg_catalog.text AS changed_at,
          unserved_since::pg_catalog.text AS unserved_since

-- insert_scans(int4, bool): the cursors of a generation; the backfill starts at once
INSERT INTO embed.scan (generation, scope, running, started_at)
SELECT $1, s.scope, s.running, CASE WHEN s.running THEN pg_catalog.clock_timestamp() END
FROM (VALUES ('source', $2), ('document', false)) s (scope, running)
