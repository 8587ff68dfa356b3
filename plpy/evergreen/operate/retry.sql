-- retry(int4, int4[], jsonb): failed keys of these generations, all or one, into the change log
-- A dead letter that a drain has locked is being written anew or forgiven: it stays for the drain to say, and its key is
-- looked at once more after it. Lag goes on counting from the change that failed. Whoever fails to finish a logged key leaves it queued, so nothing is lost by the DELETE.
WITH dead AS MATERIALIZED (
    SELECT f.key, f.unserved_since FROM embed.failure f WHERE f.generation = ANY ($2) AND ($3 IS NULL OR f.key = $3)
), held AS MATERIALIZED (
    SELECT f.ctid FROM embed.failure f WHERE f.generation = ANY ($2) AND ($3 IS NULL OR f.key = $3) FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM embed.failure WHERE ctid = ANY (ARRAY(SELECT h.ctid FROM held h))
), waiting AS MATERIALIZED (
    SELECT j.key FROM embed.job j
    WHERE j.generation = ANY ($2) AND ($3 IS NULL OR j.key = $3)
      AND j.token IS NULL AND (j.last_error IS NOT NULL OR j.ready_at > pg_catalog.clock_timestamp())
)
INSERT INTO embed.change (pipeline, key, changed_at, recheck)
SELECT $1, k.key, coalesce(min(k.since), pg_catalog.clock_timestamp()), min(k.since) IS NULL
FROM (SELECT d.key, d.unserved_since AS since FROM dead d UNION ALL SELECT w.key, NULL FROM waiting w) k
GROUP BY k.key

-- again(int4, int4[]): rows of these generations that wait after an error, into the change log
INSERT INTO embed.change (pipeline, key, recheck)
SELECT DISTINCT $1, j.key, true FROM embed.job j
WHERE j.generation = ANY ($2) AND j.token IS NULL AND (j.last_error IS NOT NULL OR j.ready_at > pg_catalog.clock_timestamp())

-- spent(int4): the daily budgets that a pipeline has spent
SELECT embed.spent_budgets(p.id, p.options) AS names FROM embed.pipeline p WHERE p.id = $1
