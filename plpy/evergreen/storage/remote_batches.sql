-- open_texts(int4, bytea[]): those of these texts that are in a batch whose results are still awaited
SELECT t.hash, t.batch, b.deadline::pg_catalog.text AS deadline
FROM pg_catalog.unnest($2) u (hash)
CROSS JOIN LATERAL (SELECT t.hash, t.batch FROM embed.batch_text t WHERE t.model = $1 AND t.hash = u.hash OFFSET 0) t
CROSS JOIN LATERAL (SELECT b.deadline FROM embed.batch b
                    WHERE b.id = t.batch AND b.finished_at IS NULL AND b.deadline > pg_catalog.clock_timestamp() OFFSET 0) b

-- add_open(int4, int4, int4, int8, text): the batch that takes texts, if there is none
INSERT INTO embed.batch (pipeline, model, model_revision, epoch, deadline)
VALUES ($1, $2, $3, $4, pg_catalog.clock_timestamp() + $5::pg_catalog.interval)
ON CONFLICT (pipeline, model, model_revision) WHERE state = 'preparing' AND sealed_at IS NULL AND NOT is_full DO NOTHING

-- lock_open(int4, int4, int4): the batch that takes texts of a pipeline's model
SELECT b.id, b.epoch, b.texts, b.bytes, b.deadline::pg_catalog.text AS deadline FROM embed.batch b
WHERE b.pipeline = $1 AND b.model = $2 AND b.model_revision = $3
  AND b.state = 'preparing' AND b.sealed_at IS NULL AND NOT b.is_full
FOR UPDATE

-- insert_texts(int8, int4, bytea[], text[], int4[], jsonb[]): adds texts to a batch
INSERT INTO embed.batch_text (batch, model, hash, text, tokens, key)
SELECT $1, $2, u.hash, u.text, u.tokens, u.key FROM unnest($3, $4, $5, $6) u (hash, text, tokens, key)
ON CONFLICT DO NOTHING

-- count_added(int8, int8, int8, int8, int8, int8): what was added: rows, texts, tokens, bytes, and texts that other owners have
UPDATE embed.batch SET rows = rows + $2, texts = texts + $3, tokens = tokens + $4, bytes = bytes + $5, spared = spared + $6,
    added_at = pg_catalog.clock_timestamp()
WHERE id = $1

-- set_full(int8): it takes no more texts
UPDATE embed.batch SET is_full = true, next_at = pg_catalog.clock_timestamp() WHERE id = $1

-- waiting(int4, int4, int4, int4, int8): texts in the batch that takes more, and rows of a generation that will be claimed for
-- history, counted up to $5. Whether the batch API refused the last batch within an hour
SELECT coalesce((SELECT b.texts FROM embed.batch b
                 WHERE b.pipeline = $1 AND b.model = $2 AND b.model_revision = $3
                   AND b.state = 'preparing' AND b.sealed_at IS NULL AND NOT b.is_full), 0) AS texts,
       (SELECT count(*) FROM (SELECT FROM embed.job j
                              WHERE j.generation = $4 AND j.lane = 1 AND j.lane IN (0, 1) AND j.batch IS NULL
                                AND (j.token IS NOT NULL OR j.ready_at <= pg_catalog.clock_timestamp())
                              LIMIT $5) q)
       + coalesce((SELECT greatest(embed.estimate_rows(p.source) - s.visited, 0)
                   FROM embed.backfill_cursor s JOIN embed.pipeline p ON p.id = $1
                   WHERE s.generation = $4 AND s.scope = 'source' AND s.running), 0) AS rows,
       EXISTS (SELECT FROM embed.batch b
               WHERE b.pipeline = $1 AND b.model = $2 AND b.state = 'failed' AND b.remote_id IS NULL
                 AND b.finished_at > pg_catalog.clock_timestamp() - '1 hour'::pg_catalog.interval) AS was_refused

-- unsealed(int4[], float8, float8): batches that take no more texts: full, or quiet for $2 seconds while no history is left to claim,
-- or open for $3 seconds
SELECT b.id FROM embed.batch b JOIN embed.pipeline p ON p.id = b.pipeline
WHERE b.state = 'preparing' AND b.sealed_at IS NULL AND b.next_at <= pg_catalog.clock_timestamp()
  AND b.pipeline = ANY ($1) AND p.state = 'active'
  AND (b.is_full OR b.created_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $3)
       OR (b.added_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $2)
           AND NOT EXISTS (SELECT FROM embed.generation g
                           JOIN embed.backfill_cursor s ON s.generation = g.id AND s.scope = 'source' AND s.running AND s.last_error IS NULL
                           WHERE g.pipeline = b.pipeline AND g.model = b.model AND g.model_revision = b.model_revision)
           AND NOT EXISTS (SELECT FROM embed.generation g
                           JOIN embed.job j ON j.generation = g.id AND j.lane = 1 AND j.lane IN (0, 1) AND j.batch IS NULL
                                AND (j.token IS NOT NULL OR j.ready_at <= pg_catalog.clock_timestamp())
                           WHERE g.pipeline = b.pipeline AND g.model = b.model AND g.model_revision = b.model_revision)))
ORDER BY b.id

-- lock_unsealed(int8): the same batch, locked; nothing if another session is at it
SELECT b.id, b.pipeline, b.model, b.model_revision, b.texts, b.epoch, b.is_full FROM embed.batch b
WHERE b.id = $1 AND b.state = 'preparing' AND b.sealed_at IS NULL FOR UPDATE SKIP LOCKED

-- token_counts(int8): estimated tokens of its texts
SELECT pg_catalog.array_agg(t.tokens ORDER BY t.hash) AS tokens FROM embed.batch_text t WHERE t.batch = $1

-- seal(int8, int8): its texts are fixed and paid for ($2 tokens); from here on it may be at the provider
UPDATE embed.batch b
SET sealed_at = pg_catalog.clock_timestamp(), next_at = pg_catalog.clock_timestamp(), reserved = $2, attempts = 0,
    texts = (SELECT count(*) FROM embed.batch_text t WHERE t.batch = $1),
    tokens = (SELECT coalesce(sum(t.tokens), 0) FROM embed.batch_text t WHERE t.batch = $1)
WHERE b.id = $1

-- postpone(int8, float8, text): looks at it again later
UPDATE embed.batch SET next_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $2), last_error = $3 WHERE id = $1

-- split(int8): a batch for the texts of another that a day's budget does not cover
WITH made AS (
    INSERT INTO embed.batch (pipeline, model, model_revision, epoch, deadline, is_full, next_at)
    SELECT b.pipeline, b.model, b.model_revision, b.epoch, b.deadline, true, pg_catalog.clock_timestamp() + '1 minute'::pg_catalog.interval
    FROM embed.batch b WHERE b.id = $1 RETURNING id)
SELECT id FROM made

-- move_texts(int8, int8, int8): moves all but the first $3 texts by hash from $1 to $2
UPDATE embed.batch_text t SET batch = $2
WHERE t.batch = $1 AND t.hash IN (SELECT m.hash FROM embed.batch_text m WHERE m.batch = $1 ORDER BY m.hash OFFSET $3)

-- recount(int8): counts its texts
UPDATE embed.batch b
SET texts = (SELECT count(*) FROM embed.batch_text t WHERE t.batch = $1),
    tokens = (SELECT coalesce(sum(t.tokens), 0) FROM embed.batch_text t WHERE t.batch = $1)
WHERE b.id = $1

-- overdue(int4[]): batches past their deadline
SELECT b.id FROM embed.batch b WHERE b.finished_at IS NULL AND b.deadline <= pg_catalog.clock_timestamp() AND b.pipeline = ANY ($1)

-- take(int4[], int8[], bool): the next batch that is due, with an owner: the token's lock is this session's. $2: this session's tokens;
-- $3: also batches of dropped pipelines. A call that creates something is not repeated for half a minute: it may be under way.
WITH due AS MATERIALIZED (
    SELECT b.id FROM embed.batch b LEFT JOIN embed.pipeline p ON p.id = b.pipeline
    WHERE NOT b.is_clean AND b.next_at <= pg_catalog.clock_timestamp()
      AND (b.sealed_at IS NOT NULL OR b.finished_at IS NOT NULL)
      AND (b.pipeline = ANY ($1) OR ($3 AND p.id IS NULL))
      AND (b.state <> 'preparing' OR p.state = 'active')
      AND (b.token IS NULL OR (b.token <> ALL ($2)
                               AND (b.expires_at <= pg_catalog.clock_timestamp() OR embed.is_abandoned(b.token, b.expires_at))))
    ORDER BY b.next_at LIMIT 1 FOR UPDATE OF b SKIP LOCKED
), owner AS MATERIALIZED (
    SELECT (pg_catalog.nextval('embed.token') << 24)
           | (pg_catalog.hashtextextended(pg_catalog.gen_random_uuid()::text, 0) & 16777215) AS token
    FROM due
)
UPDATE embed.batch b
SET token = o.token, expires_at = (SELECT embed.lease_end()), attempts = b.attempts + 1,
    next_at = CASE WHEN b.state = 'preparing' THEN pg_catalog.clock_timestamp() + '30 s'::pg_catalog.interval ELSE b.next_at END
FROM due d, owner o
WHERE b.id = d.id
RETURNING b.id, b.intent::pg_catalog.text AS intent, b.pipeline, b.model, b.model_revision, b.epoch, b.state, b.token, b.attempts,
          b.asked_at IS NOT NULL AS was_asked, b.finished_at IS NOT NULL AS is_given_up, b.remote_id, b.remote_state, b.remote_files,
          b.remote_outputs, b.remote_succeeded, b.remote_failed, b.is_collected, b.texts, b.reserved, b.tokens,
          b.finished_at < pg_catalog.clock_timestamp() - '7 days'::pg_catalog.interval AS is_old,
          pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - b.submitted_at) AS seconds

-- lock_owner(int4): this session owns the batch with this token
SELECT pg_catalog.pg_try_advisory_lock({lock_claim}, $1)

-- unlock_owner(int4): ends that
SELECT pg_catalog.pg_advisory_unlock({lock_claim}, $1)

-- renew(int8, int8): the owner is at work
UPDATE embed.batch SET expires_at = (SELECT embed.lease_end()) WHERE id = $1 AND token = $2

-- note_asked(int8, int8): the provider may have it from now on
UPDATE embed.batch SET asked_at = coalesce(asked_at, pg_catalog.clock_timestamp()) WHERE id = $1 AND token = $2
RETURNING id

-- texts(int8): its texts
SELECT t.hash, t.text FROM embed.batch_text t WHERE t.batch = $1 ORDER BY t.hash

-- note_file(int8, text): a file at the provider, noted even if another session owns the batch by now, or it would stay there
UPDATE embed.batch SET remote_files = CASE WHEN $2 = ANY (remote_files) THEN remote_files ELSE remote_files || $2 END, is_clean = false
WHERE id = $1

-- note_created(int8, text): the batch at the provider; likewise
UPDATE embed.batch
SET remote_id = coalesce(remote_id, $2), is_clean = false,
    submitted_at = coalesce(submitted_at, pg_catalog.clock_timestamp()),
    state = CASE WHEN state = 'preparing' THEN 'submitted' ELSE state END
WHERE id = $1

-- note_polled(int8, int8, text, text[], text, bool, int8, int8): what the provider said of it; $6: it stays so; $7, $8: its counts
UPDATE embed.batch
SET remote_succeeded = $7, remote_failed = $8, remote_state = CASE WHEN $6 THEN $3 END, remote_outputs = $4, last_error = coalesce($5, last_error),
    state = CASE WHEN finished_at IS NOT NULL THEN state WHEN $6 THEN 'collecting' WHEN $3 = 'running' THEN 'running' ELSE state END
WHERE id = $1 AND token = $2

-- resubmit(int8, int8, text): the provider has too much enqueued while others of the endpoint's batches are there: it is created again
-- later, as another batch of the same file. Alone, it never fits.
UPDATE embed.batch b
SET intent = pg_catalog.gen_random_uuid(), state = 'preparing', remote_id = NULL, asked_at = NULL, last_error = $3
WHERE b.id = $1 AND b.token = $2 AND b.finished_at IS NULL AND EXISTS (
    SELECT FROM embed.batch o JOIN embed.model n ON n.id = o.model JOIN embed.model m ON m.endpoint = n.endpoint
    WHERE m.id = b.model AND o.id <> b.id AND o.finished_at IS NULL AND o.state IN ('submitted', 'running'))
RETURNING b.id

-- release(int8, int8, float8, bool): ends the step; the next one is due in $3 seconds. $4: it succeeded
UPDATE embed.batch
SET token = NULL, expires_at = NULL, next_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $3),
    attempts = CASE WHEN $4 THEN 0 ELSE attempts END,
    last_error = CASE WHEN $4 AND finished_at IS NULL AND state <> 'collecting' THEN NULL ELSE last_error END
WHERE id = $1 AND token = $2

-- note_error(int8, int8, text): why the step failed
UPDATE embed.batch SET last_error = $3 WHERE id = $1 AND token = $2

-- lock_owned(int8, int8): locks it, if the token still owns it
SELECT b.finished_at IS NOT NULL AS is_given_up FROM embed.batch b WHERE b.id = $1 AND b.token = $2 FOR UPDATE

-- awaited_texts(int8, bytea[]): those of these texts that no result was filed for
SELECT t.hash, t.tokens, t.key::pg_catalog.text AS key FROM pg_catalog.unnest($2) u (hash)
CROSS JOIN LATERAL (SELECT t.hash, t.tokens, t.key FROM embed.batch_text t WHERE t.batch = $1 AND t.hash = u.hash FOR UPDATE) t

-- delete_texts(int8, bytea[]): they have their result
DELETE FROM embed.batch_text WHERE batch = $1 AND hash = ANY ($2)

-- count_results(int8, int8, int8, int8, float8, float8, float8, text): succeeded, failed, tokens, cost, saved, and the owner's cost
UPDATE embed.batch
SET succeeded = succeeded + $2, failed = failed + $3, billed = billed + $4,
    cost = CASE WHEN $5 IS NULL THEN cost ELSE coalesce(cost, 0) + $5 END,
    saved = CASE WHEN $6 IS NULL THEN saved ELSE coalesce(saved, 0) + $6 END,
    alone_cost = CASE WHEN $7 IS NULL THEN alone_cost ELSE coalesce(alone_cost, 0) + $7 END,
    last_error = coalesce($8, last_error)
WHERE id = $1

-- figures(int8): what it came to; the tokens of texts that other owners have are taken to be as many as those of its own
SELECT b.state, b.succeeded, b.failed, b.billed, b.reserved, b.spared, b.last_error,
       (b.spared * b.tokens / greatest(b.texts, 1)) AS spared_tokens,
       (b.sealed_at AT TIME ZONE 'UTC')::pg_catalog.date = (pg_catalog.clock_timestamp() AT TIME ZONE 'UTC')::pg_catalog.date AS is_same_day
FROM embed.batch b WHERE b.id = $1

-- set_collected(int8): nothing more will come
UPDATE embed.batch SET is_collected = true, next_at = pg_catalog.clock_timestamp(), attempts = 0 WHERE id = $1

-- end(int8, text, text): it is over in this state, unless it was before; $3: why
UPDATE embed.batch
SET state = CASE WHEN finished_at IS NULL THEN $2 ELSE state END, finished_at = coalesce(finished_at, pg_catalog.clock_timestamp()),
    last_error = coalesce($3, last_error), next_at = pg_catalog.clock_timestamp(), attempts = 0
WHERE id = $1

-- delete_all_texts(int8): what had no result is done by requests
DELETE FROM embed.batch_text WHERE batch = $1

-- delete_texts_of_unsent(int8): the same, if the provider does not have it
DELETE FROM embed.batch_text WHERE batch = $1 AND EXISTS (SELECT FROM embed.batch b WHERE b.id = $1 AND b.asked_at IS NULL)

-- delete_batch(int8): it never reached the provider
DELETE FROM embed.batch WHERE id = $1

-- set_clean(int8, int8): nothing is left at the provider
UPDATE embed.batch SET is_clean = true, token = NULL, expires_at = NULL WHERE id = $1 AND token = $2

-- abandon(int8): nothing can be done at the provider
UPDATE embed.batch SET is_collected = true, is_clean = true WHERE id = $1

-- find_cancellable(int8): a batch, locked
SELECT b.id, b.pipeline, b.state, b.finished_at IS NOT NULL AS is_over, b.sealed_at IS NOT NULL AS is_sealed FROM embed.batch b
WHERE b.id = $1 FOR UPDATE

-- count_texts(int8): texts without a result
SELECT count(*) FROM embed.batch_text t WHERE t.batch = $1

-- disown(int8): the step under way has lost the batch
UPDATE embed.batch SET token = NULL, expires_at = NULL WHERE id = $1

-- unsealed_of_pipeline(int4): the pipeline's batches whose texts are not fixed
SELECT b.id FROM embed.batch b WHERE b.pipeline = $1 AND b.finished_at IS NULL AND b.sealed_at IS NULL FOR UPDATE

-- unneeded(int4): the pipeline's batches that are not over, and whose vectors no generation takes any more
SELECT b.id FROM embed.batch b
WHERE b.pipeline = $1 AND b.finished_at IS NULL
  AND NOT EXISTS (SELECT FROM embed.generation g
                  WHERE g.pipeline = b.pipeline AND g.model = b.model AND g.model_revision = b.model_revision)
FOR UPDATE

-- discard(int4): batches of another server
WITH texts AS (DELETE FROM embed.batch_text t USING embed.batch b WHERE b.pipeline = $1 AND t.batch = b.id)
DELETE FROM embed.batch WHERE pipeline = $1

-- forget_texts(int4, jsonb, int4, bytea[]): texts of a row, by its key or by their hashes
DELETE FROM embed.batch_text t USING embed.batch b
WHERE t.batch = b.id AND ((b.pipeline = $1 AND t.key = $2) OR (t.model = $3 AND t.hash = ANY ($4)))
RETURNING t.batch, b.asked_at IS NOT NULL OR b.remote_files <> '{}' AS is_remote

-- purge(): batches that ended a month ago
DELETE FROM embed.batch WHERE id = ANY (ARRAY(
    SELECT b.id FROM embed.batch b
    WHERE b.is_clean AND b.finished_at < pg_catalog.clock_timestamp() - '30 days'::pg_catalog.interval FOR UPDATE SKIP LOCKED))
