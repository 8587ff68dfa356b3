-- live(bytea[]): of these texts, those that the generation has a vector of
SELECT u.hash FROM pg_catalog.unnest($1) u (hash) WHERE EXISTS (SELECT FROM {table} g WHERE g.chunk_hash = u.hash)

-- kept(int4, bytea[]): of these texts, those whose vector is kept; an erased one's is not
SELECT u.hash FROM pg_catalog.unnest($2) u (hash)
WHERE EXISTS (SELECT FROM embed.cache c WHERE c.model = $1 AND c.hash = u.hash)
