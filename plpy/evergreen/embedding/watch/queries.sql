-- watched(interval): models that are watched, and how often; $1: how often those behind an endpoint are, unless their option says
-- otherwise
SELECT m.id, CASE WHEN m.options ? 'watch' THEN (m.options ->> 'watch')::pg_catalog.interval
                  WHEN m.endpoint IS NOT NULL THEN $1 END AS every
FROM embed.model m
WHERE EXISTS (SELECT FROM embed.generation g WHERE g.model = m.id)

-- insert_missing(interval): models that are watched from now on
INSERT INTO embed.model_watch (model)
SELECT m.id FROM ({watched}) m
WHERE m.every IS NOT NULL AND NOT EXISTS (SELECT FROM embed.model_watch w WHERE w.model = m.id)
ON CONFLICT (model) DO NOTHING

-- take_due(interval, float8, float8): looks that are due, each taken by one session; if it dies, they are due again $2 seconds after
-- the request would have timed out ($3: default)
UPDATE embed.model_watch w
SET looks = w.looks + 1, next_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $2 + coalesce(
    (SELECT (e.options ->> 'total_timeout')::pg_catalog.float8 FROM embed.model m JOIN embed.endpoint e ON e.name = m.endpoint
     WHERE m.id = w.model), $3))
WHERE w.ctid = ANY (ARRAY(
    SELECT w.ctid FROM embed.model_watch w JOIN ({watched}) m ON m.id = w.model
    WHERE m.every IS NOT NULL AND w.next_at <= pg_catalog.clock_timestamp()
    FOR UPDATE OF w SKIP LOCKED))
RETURNING w.model, w.looks, pg_catalog.clock_timestamp()::pg_catalog.text AS sent_at

-- seconds_left(interval): seconds until the next look is due; NULL if no model is watched
SELECT pg_catalog.date_part('epoch', min(w.next_at) - pg_catalog.clock_timestamp()) AS seconds
FROM embed.model_watch w JOIN ({watched}) m ON m.id = w.model WHERE m.every IS NOT NULL

-- find_watch(int4): what is known of a model; is_old: since before this transaction
SELECT w.revision, w.settled, w.epoch, w.agreeing, pg_catalog.date_part('epoch', w.changed_at) AS changed_at,
       coalesce(w.watched_at < pg_catalog.now(), false) AS is_old
FROM embed.model_watch w WHERE w.model = $1

-- insert_watch(int4): a model that is looked at when it is loaded
INSERT INTO embed.model_watch (model) VALUES ($1) ON CONFLICT (model) DO NOTHING

-- take_look(int4): a look out of turn, by a session that has loaded the model
UPDATE embed.model_watch w SET looks = w.looks + 1 WHERE w.model = $1
RETURNING w.looks, pg_catalog.clock_timestamp()::pg_catalog.text AS sent_at

-- confirm(int4, float8): a session found the model unchanged; once an hour is enough
UPDATE embed.model_watch SET watched_at = pg_catalog.clock_timestamp(), good_at = pg_catalog.clock_timestamp(), drift = $2
WHERE ctid = ANY (ARRAY(SELECT w.ctid FROM embed.model_watch w
                        WHERE w.model = $1 AND w.watched_at < pg_catalog.clock_timestamp() - interval '1 h' FOR UPDATE SKIP LOCKED))

-- lock_watch(int4, int8): the model's row, if no other session has taken a later look
SELECT w.revision, w.settled, w.epoch, w.agreeing, w.served_as, w.good_at::pg_catalog.text AS good_at
FROM embed.model_watch w WHERE w.model = $1 AND w.looks = $2 FOR UPDATE

-- references(int4): stored vectors of the fixed texts
SELECT r.revision, pg_catalog.to_json(r.vector)::pg_catalog.text AS vector
FROM embed.model_reference r WHERE r.model = $1 ORDER BY r.revision, r.text_no

-- delete_references(int4, int4): a revision's, before others are stored
DELETE FROM embed.model_reference WHERE model = $1 AND revision = $2

-- insert_reference(int4, int4, int4, text): the vector of one text, as JSON
INSERT INTO embed.model_reference (model, revision, text_no, vector)
SELECT $1, $2, $3, ARRAY(SELECT e.value::pg_catalog.float4 FROM pg_catalog.json_array_elements_text($4::pg_catalog.json)
                         WITH ORDINALITY e (value, ord) ORDER BY e.ord)

-- renumber_references(int4, int4, int4): a revision's references become those of another
UPDATE embed.model_reference SET revision = $3 WHERE model = $1 AND revision = $2

-- record_look(int4, float8, text, interval, int4, timestamptz): the result of a look that changed nothing; $6: NULL unless it was good
UPDATE embed.model_watch
SET watched_at = pg_catalog.clock_timestamp(), drift = $2, served_as = coalesce($3, served_as), agreeing = $5,
    next_at = pg_catalog.clock_timestamp() + $4, good_at = coalesce($6, good_at)
WHERE model = $1

-- record_change(int4, int4, bool, timestamptz): what is served now; settled or not
UPDATE embed.model_watch
SET revision = $2, settled = $3, epoch = epoch + 1, changed_at = pg_catalog.clock_timestamp(), good_at = coalesce($4, good_at)
WHERE model = $1

-- insert_sweep(int4, int4, timestamptz): vectors of a revision written since $3 are to be marked
INSERT INTO embed.model_sweep AS s (model, revision, since) VALUES ($1, $2, coalesce($3, '-infinity'))
ON CONFLICT (model, revision) DO UPDATE SET since = least(s.since, EXCLUDED.since), horizon = NULL

-- sweeps(): revisions with vectors to mark
SELECT s.model, s.revision, s.since::pg_catalog.text AS since, s.horizon IS NOT NULL AND s.horizon <= n.newest AS dated,
       s.horizon <= n.oldest AS ready
FROM embed.model_sweep s
CROSS JOIN (SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()) AS oldest,
                   pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()) AS newest) n
ORDER BY s.model, s.revision

-- date_sweep(int4, int4): transactions that may have begun before the change end before this one; a restored row has the horizon of
-- another server
UPDATE embed.model_sweep SET horizon = pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
WHERE ctid = ANY (ARRAY(SELECT s.ctid FROM embed.model_sweep s WHERE s.model = $1 AND s.revision = $2 FOR UPDATE SKIP LOCKED))

-- lock_sweep(int4, int4, timestamptz): one session marks at a time
SELECT FROM embed.model_sweep s WHERE s.model = $1 AND s.revision = $2 AND s.since = $3 FOR UPDATE SKIP LOCKED

-- delete_sweep(int4, int4): everything is marked
DELETE FROM embed.model_sweep WHERE model = $1 AND revision = $2

-- postpone(int4, int8, interval): a look that failed
UPDATE embed.model_watch SET next_at = pg_catalog.clock_timestamp() + $3 WHERE model = $1 AND looks = $2

-- hasten(int4, text, float8): the server calls the model by another name than at the last look. Not sooner than $3 seconds after
-- that: answers of several servers may have different names, and a look costs tokens
UPDATE embed.model_watch w SET next_at = n.soon
FROM (SELECT greatest(pg_catalog.clock_timestamp(), w.watched_at + pg_catalog.make_interval(secs => $3)) AS soon
      FROM embed.model_watch w WHERE w.model = $1) n
WHERE w.model = $1 AND w.served_as <> $2 AND w.next_at > n.soon + pg_catalog.make_interval(secs => 1)

-- look_now(int4): the next look is due
UPDATE embed.model_watch SET next_at = pg_catalog.clock_timestamp() WHERE model = $1

-- delete_watch(int4): the model is dropped
WITH r AS (DELETE FROM embed.model_reference WHERE model = $1), s AS (DELETE FROM embed.model_sweep WHERE model = $1)
DELETE FROM embed.model_watch WHERE model = $1

-- forget_dropped(): rows of models that do not exist, as after a partial restore
WITH r AS (DELETE FROM embed.model_reference r WHERE NOT EXISTS (SELECT FROM embed.model m WHERE m.id = r.model)),
     s AS (DELETE FROM embed.model_sweep s WHERE NOT EXISTS (SELECT FROM embed.model m WHERE m.id = s.model))
DELETE FROM embed.model_watch w WHERE NOT EXISTS (SELECT FROM embed.model m WHERE m.id = w.model)

-- lock_watch_of(int4): the model's row, by embed_model_accept
SELECT w.revision, w.settled FROM embed.model_watch w WHERE w.model = $1 FOR UPDATE

-- accepted_revision(int4, int4): the latest revision of an active generation, other than the one that is served
SELECT max(g.model_revision) AS revision FROM embed.generation g
WHERE g.model = $1 AND g.state = 'active' AND g.model_revision <> $2

-- generation_of(int4, int4): a generation with vectors of this revision
SELECT p.name AS pipeline, g.id FROM embed.generation g JOIN embed.pipeline p ON p.id = g.pipeline
WHERE g.model = $1 AND g.model_revision = $2 ORDER BY g.id LIMIT 1

-- accept(int4, int4): a look is of this revision from now on
UPDATE embed.model_watch SET revision = $2, settled = true, epoch = epoch + 1, agreeing = 0, drift = 0, next_at = pg_catalog.clock_timestamp()
WHERE model = $1
