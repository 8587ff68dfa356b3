-- live_tokens(int4): claims whose worker lives; see dead_tokens of the claim: nobody waits for these locks
SELECT coalesce(pg_catalog.array_agg(l.token), '{}') AS tokens
FROM embed.lease l
WHERE l.generation = $1 AND l.expires_at > pg_catalog.clock_timestamp()
  AND NOT embed.is_abandoned(l.token, l.expires_at)

-- queued(int4, int4, int8[], int4): keys of jobs that no living worker has, and of the log
SELECT k.key::pg_catalog.text AS key
FROM (SELECT j.key FROM embed.job j WHERE j.generation = $1 AND (j.token IS NULL OR j.token <> ALL ($3))
      UNION
      SELECT c.key FROM embed.change c
      WHERE c.pipeline = $2 AND c.key IS NOT NULL AND pg_catalog.pg_column_size(c.key) <= 2600) k
LIMIT $4

-- count_queued(int4, int4, int8[]): how many there are
SELECT count(*)
FROM (SELECT j.key FROM embed.job j WHERE j.generation = $1 AND (j.token IS NULL OR j.token <> ALL ($3))
      UNION
      SELECT c.key FROM embed.change c
      WHERE c.pipeline = $2 AND c.key IS NOT NULL AND pg_catalog.pg_column_size(c.key) <= 2600) k

-- claimed(int4, int8[]): what living workers have
SELECT j.key::pg_catalog.text AS key FROM embed.job j WHERE j.generation = $1 AND j.token = ANY ($2)

-- cursor(int4, int4): where the backfill stands, if it runs; from the start where the log says so
SELECT CASE WHEN NOT r.restarts THEN s.position::pg_catalog.text END AS position, s.round = 0 AND NOT r.restarts AS is_first
FROM embed.scan s
CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM embed.change c WHERE c.pipeline = $2 AND c.scope = 'source') AS restarts) r
WHERE s.generation = $1 AND s.scope = 'source' AND (s.running OR r.restarts)

-- documents(int4): rows that were done
SELECT count(*) FROM embed.document d WHERE d.generation = $1

-- rows(oid): rows of the source
SELECT embed.estimate_rows($1::pg_catalog.regclass)

-- in_flight(int4, bytea[], int4[]): texts that a living worker is sending for one of these pipelines (NULL: any); a drain
-- that is left open shows nothing
SELECT i.hash FROM embed.inflight i JOIN embed.lease l ON l.token = i.token
WHERE i.model = $1 AND i.hash = ANY ($2) AND i.expires_at > pg_catalog.clock_timestamp()
  AND NOT embed.is_abandoned(l.token, l.expires_at)
  AND ($3 IS NULL OR EXISTS (SELECT FROM embed.generation g WHERE g.id = l.generation AND g.pipeline = ANY ($3)))
