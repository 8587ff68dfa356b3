-- put_lease(int8, int4, text): the claim as others see it, good for $3 each time
INSERT INTO embed.lease (token, generation, expires_at, outside)
VALUES ($1, $2, pg_catalog.clock_timestamp() + $3::pg_catalog.interval, $3::pg_catalog.interval)

-- hold_lease(int8): the claim, kept away from others to the end of the transaction; is a third of its time over
SELECT l.generation, l.outside IS NOT NULL AS is_outside,
       l.expires_at < pg_catalog.clock_timestamp() + l.outside * 2 / 3 AS is_old
FROM embed.lease l WHERE l.token = $1 FOR NO KEY UPDATE

-- is_there(int4): is there such a generation, of any pipeline
SELECT EXISTS (SELECT FROM embed.generation g WHERE g.id = $1) AS found

-- was_issued(int8): was there ever such a token
SELECT $1 >> 24 BETWEEN 1 AND t.last_value AS was FROM embed.token t

-- hand(int8, bytea[], jsonb[], int4[]): texts, the rows that need them, and what they cost
INSERT INTO embed.handed (token, hash, key, tokens, came) SELECT $1, u.hash, u.key, u.tokens, u.hash = '' FROM unnest($2, $3, $4) u (hash, key, tokens)

-- left_of(int4, jsonb[], int8): of these keys, those that the claim still has
SELECT j.key::pg_catalog.text AS key FROM pg_catalog.unnest($2) u (key)
CROSS JOIN LATERAL (SELECT j.key FROM embed.job j WHERE j.generation = $1 AND j.key = u.key AND j.token = $3 OFFSET 0) j

-- texts(int8, bytea[]): what was handed out under these hashes
SELECT h.hash, pg_catalog.array_agg(h.key::pg_catalog.text) AS keys, min(h.tokens) AS tokens, bool_and(h.came) AS came
FROM embed.handed h WHERE h.token = $1 AND h.hash = ANY ($2) AND h.hash <> '' GROUP BY h.hash

-- open(int8): texts whose vectors did not come yet
SELECT h.hash, pg_catalog.array_agg(h.key::pg_catalog.text) AS keys, min(h.tokens) AS tokens
FROM embed.handed h WHERE h.token = $1 AND NOT h.came GROUP BY h.hash

-- is_open(int8): is a vector still to come
SELECT EXISTS (SELECT FROM embed.handed h WHERE h.token = $1 AND NOT h.came) AS found

-- has_jobs(int8, int4): has the claim rows that could not be finished, as another session had them locked
SELECT EXISTS (SELECT FROM embed.handed h JOIN embed.job j ON j.generation = $2 AND j.key = h.key AND j.token = $1
               WHERE h.token = $1) AS found

-- arrive(int8, bytea[]): their vectors came
UPDATE embed.handed SET came = true WHERE token = $1 AND hash = ANY ($2) AND NOT came

-- take_back(int8, bytea[]): they are handed out no more
DELETE FROM embed.handed WHERE token = $1 AND hash = ANY ($2)

-- expire(int8): the claim's time is up
UPDATE embed.lease SET expires_at = pg_catalog.clock_timestamp() WHERE token = $1

-- drop(int8): the claim is finished
WITH texts AS (DELETE FROM embed.handed WHERE token = $1)
DELETE FROM embed.lease WHERE token = $1

-- hold_jobs(int4, jsonb[], int8): of these keys, those that the claim has; see lock_jobs in apply/write.sql
SELECT u.key::pg_catalog.text AS key, j.lane, j.changes, j.attempts, j.changed_at::pg_catalog.text AS changed_at,
       j.unserved_since::pg_catalog.text AS unserved_since
FROM pg_catalog.unnest($2) u (key)
CROSS JOIN LATERAL (SELECT j.lane, j.changes, j.attempts, j.changed_at, j.unserved_since FROM embed.job j
                    WHERE j.generation = $1 AND j.key = u.key AND j.token = $3 FOR UPDATE SKIP LOCKED) j

-- now(int4): the time, and the round of the cursor over the stored documents
SELECT pg_catalog.clock_timestamp()::pg_catalog.text AS at,
       (SELECT s.round FROM embed.scan s WHERE s.generation = $1 AND s.scope = 'document') AS round
