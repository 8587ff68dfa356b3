-- coverage(int4, int4): documents of the active generation, and those of them that the other one has; no dead letters
SELECT count(*) AS keys, count(b.key) AS covered
FROM embed.document a
LEFT JOIN embed.document b ON b.generation = $2 AND b.key = a.key
WHERE a.generation = $1
  AND NOT EXISTS (SELECT FROM embed.failure f WHERE f.generation = $1 AND f.key = a.key)
  AND NOT EXISTS (SELECT FROM embed.failure f WHERE f.generation = $2 AND f.key = a.key)
