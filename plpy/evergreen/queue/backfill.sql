-- lock_round(int4): round of the cursor over the stored documents; keeps a new round from starting before this commits.
-- KEY SHARE: an open drain holds this lock, and cursors may move meanwhile. Only coalescing, which starts a new round, waits
-- (see coalesce_scopes). Otherwise, after a TRUNCATE, a new round could pass before an open drain commits: its documents would
-- never be deleted. Returns nothing while another session starts a round.
SELECT s.round FROM embed.backfill_cursor s WHERE s.generation = $1 AND s.scope = 'document' FOR KEY SHARE SKIP LOCKED

-- lock_cursor(int4, text): the cursor, if it runs and no other session moves it. NO KEY, here and below: see lock_round
SELECT s.position::pg_catalog.text AS position FROM embed.backfill_cursor s
WHERE s.generation = $1 AND s.scope = $2 AND s.running FOR NO KEY UPDATE SKIP LOCKED

-- wait_for_cursor(int4, text): like lock_cursor, but waits for the session that moves it
SELECT s.position::pg_catalog.text AS position FROM embed.backfill_cursor s
WHERE s.generation = $1 AND s.scope = $2 AND s.running FOR NO KEY UPDATE

-- move_cursor(int4, text, jsonb, bool, int8): records the new position and the number of keys visited; stops the cursor at the end.
-- While a worker is active, moves are at most half a minute apart: a longer gap counts as idle time.
UPDATE embed.backfill_cursor s
SET position = $3, running = $4, last_error = NULL, visited = s.visited + $5, moved_at = pg_catalog.clock_timestamp(),
    active_time = s.active_time + least(pg_catalog.clock_timestamp() - coalesce(s.moved_at, s.started_at), '1 minute')
WHERE s.generation = $1 AND s.scope = $2

-- running_cursor(int4, text): position of the cursor, if it runs
SELECT s.position::pg_catalog.text AS position, s.round FROM embed.backfill_cursor s
WHERE s.generation = $1 AND s.scope = $2 AND s.running

-- move_cursor_from(int4, text, jsonb, bool, int8, jsonb, int8): like move_cursor, if the cursor is still at position $6 in this round
UPDATE embed.backfill_cursor s
SET position = $3, running = $4, last_error = NULL, visited = s.visited + $5, moved_at = pg_catalog.clock_timestamp(),
    active_time = s.active_time + least(pg_catalog.clock_timestamp() - coalesce(s.moved_at, s.started_at), '1 minute')
WHERE s.ctid = ANY (ARRAY(SELECT o.ctid FROM embed.backfill_cursor o
                          WHERE o.generation = $1 AND o.scope = $2 AND o.running AND o.position IS NOT DISTINCT FROM $6
                            AND o.round = $7
                          FOR NO KEY UPDATE SKIP LOCKED))

-- keys_without_document(int4, jsonb[]): those of these keys without a document
SELECT u.key::pg_catalog.text AS key FROM unnest($2) WITH ORDINALITY u (key, ord)
WHERE NOT EXISTS (SELECT FROM embed.document d WHERE d.generation = $1 AND d.key = u.key)
ORDER BY u.ord

-- set_cursor_error(int4, text, text): records why it does not move
UPDATE embed.backfill_cursor SET last_error = $3
WHERE ctid = ANY (ARRAY(SELECT s.ctid FROM embed.backfill_cursor s WHERE s.generation = $1 AND s.scope = $2 FOR NO KEY UPDATE SKIP LOCKED))

-- stored_keys(int4, jsonb, int4): documents in key order
SELECT d.key::pg_catalog.text AS key FROM embed.document d
WHERE d.generation = $1 AND ($2 IS NULL OR d.key > $2) ORDER BY d.key LIMIT $3

-- checked_keys(int4, jsonb, int4): keys of documents and of dead letters in key order: the rows of both may be gone
SELECT k.key::pg_catalog.text AS key
FROM ((SELECT d.key FROM embed.document d
       WHERE d.generation = $1 AND ($2 IS NULL OR d.key > $2) ORDER BY d.key LIMIT $3)
      UNION
      (SELECT f.key FROM embed.failure f
       WHERE f.generation = $1 AND ($2 IS NULL OR f.key > $2) ORDER BY f.key LIMIT $3)) k
ORDER BY k.key LIMIT $3

-- insert_claimed_jobs(int4, jsonb[], int8, timestamptz): inserts backfill jobs that are claimed from the start
INSERT INTO embed.job (generation, key, lane, token, ready_at, changed_at)
SELECT $1, k.key, 1, $3, (SELECT embed.lease_end($3)), $4
FROM pg_catalog.unnest($2) k (key)
WHERE pg_catalog.pg_column_size(k.key) <= {max_key_bytes}

-- insert_missing_jobs(int4, jsonb[], int8, timestamptz): the same for keys without a job; returns them
WITH added AS (
    INSERT INTO embed.job (generation, key, lane, token, ready_at, changed_at)
    SELECT $1, k.key, 1, $3, (SELECT embed.lease_end($3)), $4
    FROM pg_catalog.unnest($2) k (key)
    WHERE pg_catalog.pg_column_size(k.key) <= {max_key_bytes}
    ON CONFLICT DO NOTHING
    RETURNING key)
SELECT coalesce(pg_catalog.array_agg(a.key::pg_catalog.text), '{}') AS keys FROM added a

-- insert_cursors(int4, bool): cursors of a generation; $2: whether the backfill starts at once
INSERT INTO embed.backfill_cursor (generation, scope, running, started_at)
SELECT $1, s.scope, s.running, CASE WHEN s.running THEN pg_catalog.clock_timestamp() END
FROM (VALUES ('source', $2), ('document', false)) s (scope, running)

-- insert_sampled_jobs(int4, int4, int4, int8): queues rows of the active generation ($1), at random places, for a new one ($2),
-- if there are more than $4
INSERT INTO embed.job (generation, key, lane)
SELECT $2, s.key, 1
FROM (SELECT DISTINCT c.key
      FROM (SELECT b.low + pg_catalog.floor(pg_catalog.random() * (b.high - b.low + 1))::bigint AS place
            FROM (SELECT min(g.document) AS low, max(g.document) AS high FROM {table} g) b, pg_catalog.generate_series(1, $3)
            OFFSET 0) p
      CROSS JOIN LATERAL (SELECT g.key FROM {table} g WHERE g.document >= p.place ORDER BY g.document, g.id LIMIT 1) c) s
WHERE (SELECT embed.documents($1)) > $4
ORDER BY pg_catalog.random()
ON CONFLICT DO NOTHING

-- restart_cursors(int4): checks everything again; fresh rows cost no call
UPDATE embed.backfill_cursor s SET running = true, position = NULL, round = s.round + 1, started_at = pg_catalog.clock_timestamp(),
    visited = 0, active_time = '0', moved_at = NULL
FROM embed.generation g WHERE g.pipeline = $1 AND s.generation = g.id
