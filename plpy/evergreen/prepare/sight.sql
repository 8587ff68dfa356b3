-- is_restricted(oid): does row security apply to the caller, on this table
SELECT pg_catalog.row_security_active($1)

-- sees_any(jsonb[]): is there a row with any of these keys. Not by the stored form of its key, which depends on settings: those
-- are the caller's, as the policies may depend on them. MATERIALIZED: a cast is no leakproof function, and the planner would
-- not use the key's index before the policies
WITH k AS MATERIALIZED (SELECT u.key FROM pg_catalog.unnest($1) u (key))
SELECT EXISTS (SELECT FROM k JOIN {source} s ON {matches})
