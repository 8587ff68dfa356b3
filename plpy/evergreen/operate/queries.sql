-- texts_in_generation(bytea[]): those of these texts that the generation has a vector for
SELECT u.hash FROM pg_catalog.unnest($1) u (hash) WHERE EXISTS (SELECT FROM {table} g WHERE g.chunk_hash = u.hash)

-- texts_in_cache(int4, bytea[]): those of these texts with a cached vector; erased texts have none
SELECT u.hash FROM pg_catalog.unnest($2) u (hash)
WHERE EXISTS (SELECT FROM embed.cache c WHERE c.model = $1 AND c.hash = u.hash)

-- is_backfill_running(int4): whether a cursor over the source has moved past its start
SELECT EXISTS (SELECT FROM embed.generation g JOIN embed.backfill_cursor s ON s.generation = g.id
               WHERE g.pipeline = $1 AND s.scope = 'source' AND s.running AND s.position IS NOT NULL)

-- queued_keys(int4, int4, int8[], int4): keys of jobs that no live worker holds, and of the log; whether they are history, which
-- may go into a batch
SELECT k.key::pg_catalog.text AS key, pg_catalog.bool_and(k.is_history) AS is_history
FROM (SELECT j.key, j.lane = 1 AND j.unserved_since IS NULL AND j.batch IS NULL AS is_history
      FROM embed.job j WHERE j.generation = $1 AND (j.token IS NULL OR j.token <> ALL ($3))
      UNION ALL
      SELECT c.key, false FROM embed.change_log c
      WHERE c.pipeline = $2 AND c.key IS NOT NULL AND pg_catalog.pg_column_size(c.key) <= {max_key_bytes}) k
GROUP BY k.key LIMIT $4

-- count_queued_keys(int4, int4, int8[]): number of such keys
SELECT count(*)
FROM (SELECT j.key FROM embed.job j WHERE j.generation = $1 AND (j.token IS NULL OR j.token <> ALL ($3))
      UNION
      SELECT c.key FROM embed.change_log c
      WHERE c.pipeline = $2 AND c.key IS NOT NULL AND pg_catalog.pg_column_size(c.key) <= {max_key_bytes}) k

-- claimed_keys(int4, int8[]): keys held by live workers
SELECT j.key::pg_catalog.text AS key FROM embed.job j WHERE j.generation = $1 AND j.token = ANY ($2)

-- backfill_cursor(int4, int4): position of the backfill, if it runs; the start if the log says so
SELECT CASE WHEN NOT r.restarts THEN s.position::pg_catalog.text END AS position, s.round = 0 AND NOT r.restarts AS is_first
FROM embed.backfill_cursor s
CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM embed.change_log c WHERE c.pipeline = $2 AND c.scope = 'source') AS restarts) r
WHERE s.generation = $1 AND s.scope = 'source' AND (s.running OR r.restarts)

-- estimated_documents(int4): number of rows already embedded
SELECT count(*) FROM embed.document d WHERE d.generation = $1

-- estimated_rows(oid): number of rows of the source
SELECT embed.estimate_rows($1::pg_catalog.regclass)

-- texts_in_flight(int4, bytea[], int4[]): texts that a live worker is sending for one of these pipelines (NULL: any).
-- An open drain shows nothing here.
SELECT i.hash FROM embed.in_flight i JOIN embed.lease l ON l.token = i.token
WHERE i.model = $1 AND i.hash = ANY ($2) AND i.expires_at > pg_catalog.clock_timestamp()
  AND NOT embed.is_abandoned(l.token, l.expires_at)
  AND ($3 IS NULL OR EXISTS (SELECT FROM embed.generation g WHERE g.id = l.generation AND g.pipeline = ANY ($3)))

-- texts_in_batches(int4, bytea[], int4[]): texts in batches of these pipelines (NULL: any)
SELECT t.hash FROM pg_catalog.unnest($2) u (hash)
CROSS JOIN LATERAL (SELECT t.hash, t.batch FROM embed.batch_text t WHERE t.model = $1 AND t.hash = u.hash OFFSET 0) t
JOIN embed.batch b ON b.id = t.batch
WHERE b.finished_at IS NULL AND b.deadline > pg_catalog.clock_timestamp() AND ($3 IS NULL OR b.pipeline = ANY ($3))

-- explained_job(int4, jsonb): the queued work for a key
SELECT j.lane, j.attempts, j.last_error, j.changed_at::pg_catalog.text AS changed_at,
       j.ready_at::pg_catalog.text AS ready_at, j.ready_at > pg_catalog.clock_timestamp() AS waits, l.token IS NOT NULL AS claimed,
       d.base_name AS cause,
       nullif(j.batch, 0) AS batch
FROM embed.job j LEFT JOIN embed.dependency d ON d.id = j.dependency LEFT JOIN embed.lease l ON l.token = j.token AND l.expires_at > pg_catalog.clock_timestamp()
WHERE j.generation = $1 AND j.key = $2

-- awaits_backfill(int4, jsonb): whether a key is in no queue while the backfill is under way
SELECT EXISTS (SELECT FROM embed.backfill_cursor s WHERE s.generation = $1 AND s.scope = 'source' AND s.running)
       AND NOT EXISTS (SELECT FROM embed.job j WHERE j.generation = $1 AND j.key = $2)
       AND NOT EXISTS (SELECT FROM embed.failure f WHERE f.generation = $1 AND f.key = $2)

-- explained_changes(int4, jsonb): log rows not coalesced yet
SELECT count(*) AS changes, min(c.changed_at)::pg_catalog.text AS since, pg_catalog.string_agg(DISTINCT d.base_name, ', ') AS causes
FROM embed.change_log c LEFT JOIN embed.dependency d ON d.id = c.dependency WHERE c.pipeline = $1 AND c.key = $2

-- waiting_links(int4): tables under a view with changes whose rows are not all queued yet
SELECT d.base_name AS name, min(w.changed_at)::pg_catalog.text AS since
FROM (SELECT c.dependency, c.changed_at FROM embed.change_log c WHERE c.pipeline = $1 AND c.link IS NOT NULL
      UNION ALL SELECT l.dependency, l.changed_at FROM embed.link_cursor l WHERE l.pipeline = $1) w
JOIN embed.dependency d ON d.id = w.dependency
GROUP BY d.base_name ORDER BY d.base_name

-- explained_document(int4, jsonb): what is stored for a key
SELECT d.id, d.fingerprint, d.src_hash, d.chunks, d.changed_at::pg_catalog.text AS changed_at,
       d.embedded_at::pg_catalog.text AS embedded_at
FROM embed.document d WHERE d.generation = $1 AND d.key = $2

-- explained_failure(int4, jsonb): the dead letter
SELECT f.class, f.message, f.attempts, f.first_at::pg_catalog.text AS first_at, f.last_at::pg_catalog.text AS last_at
FROM embed.failure f WHERE f.generation = $1 AND f.key = $2

-- other_pipelines(oid, int4): other pipelines on the same table
SELECT p.name FROM embed.pipeline p WHERE p.source = $1::pg_catalog.regclass AND p.id <> $2 ORDER BY p.name

-- spent_budgets(int4): daily budgets that a pipeline has spent
SELECT embed.spent_budgets(p.id, p.options) AS names FROM embed.pipeline p WHERE p.id = $1

-- verified_documents(int4, jsonb[]): what is stored for these keys
SELECT d.id, u.key::pg_catalog.text AS key, d.fingerprint, d.src_hash
FROM pg_catalog.unnest($2) u (key)
CROSS JOIN LATERAL (SELECT d.id, d.fingerprint, d.src_hash FROM embed.document d
                    WHERE d.generation = $1 AND d.key = u.key OFFSET 0) d

-- verified_chunks(int8[]): stored chunks in order
SELECT g.document, g.id, g.chunk_no, g.chunk_hash, g.chunk, g.model, g.fingerprint, g.src_hash,
       {key} OPERATOR(pg_catalog.=) g.key AS key_is_right
FROM {table} g WHERE g.document = ANY ($1) ORDER BY g.document, g.chunk_no

-- rough_rows(oid): approximate number of rows, and whether they may be counted
SELECT r.rows, r.is_small FROM embed.rough_rows($1::pg_catalog.regclass) r

-- count_rows(): runs as the caller, like all that follow
SELECT count(*) FROM {source}

-- first_rows(): the first rows of the table
SELECT {key}::pg_catalog.text AS key, {content} AS content, {frame} AS frame FROM {source} s ORDER BY {order} LIMIT 3

-- all_rows(int4): rows from the start
SELECT {content} AS content, {frame} AS frame FROM {source} s LIMIT $1

-- sample_rows(int4): rows of randomly chosen pages
SELECT {content} AS content, {frame} AS frame FROM {source} s TABLESAMPLE pg_catalog.system ({percent}) LIMIT $1
