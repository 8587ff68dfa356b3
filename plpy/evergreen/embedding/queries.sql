-- among(int4, bytea[]): which of these texts must be sent alone
SELECT s.hash, s.refused FROM pg_catalog.unnest($2) u (hash)
CROSS JOIN LATERAL (SELECT s.hash, s.refused FROM embed.suspect s WHERE s.model = $1 AND s.hash = u.hash OFFSET 0) s

-- note(int4, bytea[], bool[]): texts that made their requests fail: refused, or for an unknown reason
INSERT INTO embed.suspect (model, hash, refused)
SELECT $1, u.hash, u.refused FROM unnest($2, $3) u (hash, refused) ORDER BY u.hash
ON CONFLICT (model, hash) DO UPDATE SET refused = EXCLUDED.refused, last_at = EXCLUDED.last_at

-- clear(int4, bytea[]): texts that were embedded after all
DELETE FROM embed.suspect WHERE ctid = ANY (ARRAY(
    SELECT s.ctid FROM pg_catalog.unnest($2) u (hash)
    CROSS JOIN LATERAL (SELECT s.ctid FROM embed.suspect s WHERE s.model = $1 AND s.hash = u.hash
                        FOR UPDATE SKIP LOCKED) s))

-- purge(): texts not seen for a month, and those of dropped models
DELETE FROM embed.suspect WHERE ctid = ANY (ARRAY(
    SELECT s.ctid FROM embed.suspect s
    WHERE s.last_at < pg_catalog.clock_timestamp() - '30 days'::pg_catalog.interval
       OR NOT EXISTS (SELECT FROM embed.model m WHERE m.id = s.model)
    FOR UPDATE SKIP LOCKED))

-- runs_as(text, text): whether a role has the privileges that this function runs with
SELECT coalesce((SELECT pg_catalog.pg_has_role($1, f.proowner, 'USAGE') FROM pg_catalog.pg_proc f
                 WHERE f.oid = pg_catalog.to_regprocedure($2)), false)
