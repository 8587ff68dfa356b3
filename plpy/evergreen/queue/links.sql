-- queue_links(int4, xid8, int4, jsonb[], xid8[], text[]): log rows of links become cursors, in the statement that deletes them.
-- A cursor under way does not start again, or a parent that changes every second would never have all of its rows queued: it
-- goes on to the end, and then from the start to where it was at the change. $6: only these values, to work around locks.
WITH taken AS MATERIALIZED (
    SELECT c.ctid, c.dependency, c.link, c.changed_at FROM embed.change_log c
    WHERE c.link IS NOT NULL {condition}
    FOR UPDATE SKIP LOCKED
), wanted AS MATERIALIZED (
    SELECT t.dependency, t.link, min(t.changed_at) AS changed_at, pg_catalog.array_agg(t.ctid) AS rows,
           EXISTS (SELECT FROM embed.dependency d WHERE d.id = t.dependency) AS is_known,
           pg_catalog.pg_column_size(t.link) <= {max_key_bytes} AS fits
    FROM taken t WHERE $6 IS NULL OR t.link::pg_catalog.text = ANY ($6) GROUP BY t.dependency, t.link
), looked AS MATERIALIZED (
    SELECT w.*, e.found
    FROM wanted w
    LEFT JOIN LATERAL (SELECT true AS found FROM embed.link_cursor l WHERE l.dependency = w.dependency AND l.link = w.link OFFSET 0) e ON true
    WHERE w.is_known AND w.fits
), held AS MATERIALIZED (
    SELECT l.ctid AS cursor, k.changed_at, k.rows
    FROM looked k
    CROSS JOIN LATERAL (SELECT l.ctid FROM embed.link_cursor l WHERE l.dependency = k.dependency AND l.link = k.link
                        FOR UPDATE SKIP LOCKED) l
    WHERE k.found
), marked AS (
    UPDATE embed.link_cursor l
    SET lap_end = l.position, wrapped = false,
        changed_at = CASE WHEN l.position IS NULL THEN least(l.changed_at, h.changed_at) ELSE l.changed_at END,
        next_at = CASE WHEN l.position IS NOT NULL THEN least(l.next_at, h.changed_at) END
    FROM held h WHERE l.ctid = h.cursor
), added AS (
    INSERT INTO embed.link_cursor (pipeline, dependency, link, changed_at)
    SELECT $1, k.dependency, k.link, k.changed_at FROM looked k WHERE k.found IS NULL
    ON CONFLICT DO NOTHING
    RETURNING dependency, link
), too_long AS (
    INSERT INTO embed.change_log (pipeline, scope)
    SELECT $1, 'source' WHERE EXISTS (SELECT FROM wanted w WHERE w.is_known AND NOT w.fits)
), done AS (
    SELECT h.rows FROM held h
    UNION ALL SELECT w.rows FROM wanted w JOIN added a ON a.dependency = w.dependency AND a.link = w.link
    UNION ALL SELECT w.rows FROM wanted w WHERE NOT (w.is_known AND w.fits)
), gone AS (
    DELETE FROM embed.change_log c
    WHERE c.ctid = ANY (ARRAY(SELECT r.row FROM done d CROSS JOIN LATERAL pg_catalog.unnest(d.rows) r (row)))
    RETURNING c.pipeline
)
SELECT count(*) AS queued FROM gone

-- logged_links(int4, xid8, int4): values whose changes are logged
SELECT DISTINCT c.link::pg_catalog.text AS link
FROM (SELECT c.link FROM embed.change_log c WHERE c.pipeline = $1 AND c.xid >= $2 AND c.link IS NOT NULL ORDER BY c.xid LIMIT $3) c

-- has_cursors(int4): whether any cursor of a pipeline is ready
SELECT EXISTS (SELECT FROM embed.link_cursor l WHERE l.pipeline = $1 AND l.ready_at <= pg_catalog.clock_timestamp()) AS found

-- take_new(int4, int4): locks cursors that are at the start
SELECT l.dependency, l.link::pg_catalog.text AS link, l.changed_at::pg_catalog.text AS changed_at, l.failures
FROM embed.link_cursor l
WHERE l.pipeline = $1 AND NOT l.paging AND l.ready_at <= pg_catalog.clock_timestamp()
ORDER BY l.moved_at LIMIT $2
FOR UPDATE SKIP LOCKED

-- take_page(int4): locks the cursor that has waited longest for its next page
SELECT l.dependency, l.link::pg_catalog.text AS link, l.position::pg_catalog.text AS position, l.lap_end::pg_catalog.text AS lap_end,
       l.wrapped, l.changed_at::pg_catalog.text AS changed_at, l.failures
FROM embed.link_cursor l
WHERE l.pipeline = $1 AND l.paging AND l.ready_at <= pg_catalog.clock_timestamp()
ORDER BY l.moved_at LIMIT 1
FOR UPDATE SKIP LOCKED

-- count_waiting(int4, int4, int4): jobs of a pipeline in a lane that nothing has claimed, and logged keys that will be some, up to a
-- limit each
SELECT coalesce(pg_catalog.max(c.waiting), 0)
       + (SELECT count(*) FROM (SELECT FROM embed.change_log l WHERE l.pipeline = $1 AND l.key IS NOT NULL AND l.bulk LIMIT $3) l) AS waiting
FROM embed.generation g
CROSS JOIN LATERAL (SELECT count(*) AS waiting
                    FROM (SELECT FROM embed.job j WHERE j.generation = g.id AND j.lane = $2 AND j.lane IN (0, 1) AND j.token IS NULL
                          LIMIT $3) j) c
WHERE g.pipeline = $1

-- expanded(jsonb, int4): keys that the values in a JSON array lead to, with the position of the value
SELECT e.ord, e.key::pg_catalog.text AS key FROM {expand}($1, $2) e

-- page(jsonb, jsonb, jsonb, int4): the next keys that one value leads to
SELECT p.key::pg_catalog.text AS key FROM {page}($1, $2, $3, $4) p (key)

-- log_keys_of_link(int4, int4, jsonb[], timestamptz[], bool): queues the rows: they may have changed when the parent did
INSERT INTO embed.change_log (pipeline, dependency, key, changed_at, bulk)
SELECT $1, $2, u.key, u.changed_at, $5 FROM unnest($3, $4) u (key, changed_at)

-- delete_cursors(int4, jsonb[]): all rows of these values are queued
DELETE FROM embed.link_cursor l USING pg_catalog.unnest($2) u (link) WHERE l.dependency = $1 AND l.link = u.link

-- begin_paging(int4, jsonb[]): these values lead to many rows
UPDATE embed.link_cursor l SET paging = true FROM pg_catalog.unnest($2) u (link) WHERE l.dependency = $1 AND l.link = u.link

-- move(int4, jsonb, jsonb): records the last key that was queued
UPDATE embed.link_cursor SET position = $3, moved_at = pg_catalog.clock_timestamp(), failures = 0, last_error = NULL
WHERE dependency = $1 AND link = $2

-- wrap(int4, jsonb): starts again, up to lap_end
UPDATE embed.link_cursor
SET position = NULL, wrapped = true, changed_at = coalesce(next_at, changed_at), next_at = NULL, moved_at = pg_catalog.clock_timestamp(),
    failures = 0, last_error = NULL
WHERE dependency = $1 AND link = $2

-- set_errors(int4, jsonb[], text, float8): the rows could not be read; tried again after some seconds
UPDATE embed.link_cursor l
SET last_error = $3, failures = l.failures + 1, moved_at = pg_catalog.clock_timestamp(),
    ready_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $4)
FROM pg_catalog.unnest($2) u (link) WHERE l.dependency = $1 AND l.link = u.link

-- delete_links(int4[]): cursors of links that are gone; log rows of theirs are deleted when they are looked at
DELETE FROM embed.link_cursor WHERE dependency = ANY ($1)
