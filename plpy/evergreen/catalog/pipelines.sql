-- find(text, int4): one pipeline, by its name or its id
SELECT p.id, p.name, p.source::oid::bigint AS source, p.key_names::text[] AS key_names, p.key_attnums::int[] AS key_attnums,
       p.key_types, p.only_if::text AS only_if, p.only_if_attnum, p.capture,
       p.capture = 'trigger' OR coalesce(w.triggers, false) AS triggers, p.state, p.broken_reason, p.bound_name,
       p.view::oid::bigint AS view, p.options::text AS options, p.system_identifier, p.database_oid::bigint AS database_oid,
       p.source_oid::bigint AS source_oid, c.relowner::bigint AS owner, t.what AS torn, t.remedy,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS source_name
FROM embed.pipeline p
LEFT JOIN embed.wal w ON w.pipeline = p.id
LEFT JOIN pg_catalog.pg_class c ON c.oid = p.source
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL embed.torn(p.id) t ON true
WHERE p.name = $1 OR p.id = $2

-- torn(): pipelines that refer to what is not there
SELECT p.name, t.what, t.remedy FROM embed.pipeline p CROSS JOIN LATERAL embed.torn(p.id) t WHERE t.what IS NOT NULL

-- all_ids(): every pipeline
SELECT p.id FROM embed.pipeline p ORDER BY p.id

-- generations(int4): the generations of a pipeline: the active one, then those that came into their state last
SELECT g.id, g.pipeline, g.model, g.columns::text[] AS columns, g.template, g.chunker::text AS chunker,
       g.watched_names::text[] AS watched_names, g.watched_attnums::int[] AS watched_attnums, g.state,
       g.options::text AS options
FROM embed.generation g WHERE g.pipeline = $1
ORDER BY g.state = 'active' DESC, g.since DESC, g.id DESC

-- is_owner(text, int8): may this role administer what that role owns
SELECT pg_catalog.pg_has_role($1, 'embed_admin', 'USAGE')
    OR coalesce((SELECT pg_catalog.pg_has_role($1, r.oid, 'USAGE') FROM pg_catalog.pg_roles r WHERE r.oid = $2::pg_catalog.oid), false)

-- is_admin(text): may this role do everything
SELECT pg_catalog.pg_has_role($1, 'embed_admin', 'USAGE')

-- is_member(text, text): has this role that role's rights
SELECT pg_catalog.pg_has_role($1, $2, 'USAGE')

-- runs_as(text, text): has this role the rights that this function runs with
SELECT coalesce((SELECT pg_catalog.pg_has_role($1, f.proowner, 'USAGE') FROM pg_catalog.pg_proc f
                 WHERE f.oid = pg_catalog.to_regprocedure($2)), false)

-- may_read(text, oid): may this role select from that table
SELECT coalesce(pg_catalog.has_table_privilege($1, $2, 'SELECT') OR pg_catalog.has_any_column_privilege($1, $2, 'SELECT'), false)
