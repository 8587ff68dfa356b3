-- record(int4, int2, timestamptz[]): one batch, of a lane. Four buckets to a doubling, from a millisecond to three days
INSERT INTO embed.lag (pipeline, lane, buckets, counts)
SELECT $1, $2, pg_catalog.array_agg(b.bucket ORDER BY b.bucket), pg_catalog.array_agg(b.count ORDER BY b.bucket)
FROM (SELECT least(greatest(pg_catalog.ceil(4 / pg_catalog.ln(2::pg_catalog.float8) * pg_catalog.ln(greatest(
                 1000 * pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - u.since), 1))), 0), 112)::int2 AS bucket,
             count(*) AS count
      FROM pg_catalog.unnest($3) u (since) GROUP BY 1) b

-- fold_minutes(int4): batches of minutes that are over become one row a minute and lane
WITH old AS MATERIALIZED (
    SELECT l.ctid FROM embed.lag l
    WHERE NOT l.folded AND l.at < pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp())
    ORDER BY l.at LIMIT $1 FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM embed.lag l WHERE l.ctid = ANY (ARRAY(SELECT o.ctid FROM old o)) RETURNING l.*),
summed AS (
    SELECT g.pipeline, g.lane, pg_catalog.date_trunc('minute', g.at) AS at, u.bucket, sum(u.count)::pg_catalog.int8 AS count
    FROM gone g CROSS JOIN LATERAL unnest(g.buckets, g.counts) u (bucket, count)
    GROUP BY 1, 2, 3, 4)
INSERT INTO embed.lag (pipeline, lane, at, folded, buckets, counts)
SELECT s.pipeline, s.lane, s.at, true, pg_catalog.array_agg(s.bucket ORDER BY s.bucket), pg_catalog.array_agg(s.count ORDER BY s.bucket)
FROM summed s GROUP BY s.pipeline, s.lane, s.at

-- drop_old(): what embed_status shows no more, and what came in while its pipeline was dropped
DELETE FROM embed.lag WHERE ctid = ANY (ARRAY(
    SELECT l.ctid FROM embed.lag l
    WHERE l.at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(hours => 1, mins => 1)
       OR NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = l.pipeline)
    FOR UPDATE SKIP LOCKED))
