-- is_under_way(int4): has a cursor over the source come further than to its start
SELECT EXISTS (SELECT FROM embed.generation g JOIN embed.scan s ON s.generation = g.id
               WHERE g.pipeline = $1 AND s.scope = 'source' AND s.running AND s.position IS NOT NULL)
