CREATE FUNCTION embed.qualified_name(relation oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation
$sql$;
COMMENT ON FUNCTION embed.qualified_name(oid) IS 'internal: schema and name of a table or view, quoted; null if there is none';

-- Any role may have created a table of that name before the restore did: a pipeline goes to the owner of its table, with all
-- vectors and texts. A restore with --no-owner gives tables to the role that restores.
CREATE FUNCTION embed.find_source(source_name text, source_owner text, is_view boolean) RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT c.oid FROM pg_catalog.pg_class c
    WHERE c.oid = pg_catalog.to_regclass(source_name) AND c.relkind = ANY (CASE WHEN is_view THEN '{v,m}' ELSE '{r,p}' END::"char"[])
      AND (pg_catalog.pg_has_role(c.relowner, 'embed_admin', 'USAGE')
           OR c.relowner = (SELECT e.extowner FROM pg_catalog.pg_extension e WHERE e.extname = 'evergreen')
           OR EXISTS (SELECT FROM pg_catalog.pg_roles r
                      WHERE r.rolname = source_owner AND pg_catalog.pg_has_role(c.relowner, r.oid, 'USAGE')))
$sql$;
COMMENT ON FUNCTION embed.find_source(text, text, boolean) IS
    'internal: table, or view, of this name, if its owner is the one recorded or may administer every pipeline';

CREATE FUNCTION embed.find_view(view_name text) RETURNS oid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT c.oid FROM pg_catalog.pg_class c
    WHERE c.oid = pg_catalog.to_regclass(view_name) AND c.relkind = 'v'
      AND c.relowner = (SELECT e.extowner FROM pg_catalog.pg_extension e WHERE e.extname = 'evergreen')
$sql$;
COMMENT ON FUNCTION embed.find_view(text) IS 'internal: view of this name, if it belongs to the extension''s owner';

-- An oid means nothing in another database: a row that a restore inserts takes the tables of these names.
CREATE FUNCTION embed.bind_restored() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    NEW.source = coalesce(embed.find_source(NEW.source_name, NEW.source_owner, NEW.definition IS NOT NULL), 0);
    NEW.view = embed.find_view(NEW.view_name);
    IF NEW.source <> 0 THEN  -- tells that this oid is one of this database: it is followed if the table changes hands or name
        NEW.database_oid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database());
    END IF;
    RETURN NEW;
END
$plpgsql$;
COMMENT ON FUNCTION embed.bind_restored() IS 'internal: trigger, binds a restored pipeline to the tables of its names';

CREATE TRIGGER bind_restored BEFORE INSERT ON embed.pipeline FOR EACH ROW EXECUTE FUNCTION embed.bind_restored();
ALTER TABLE embed.pipeline ENABLE ALWAYS TRIGGER bind_restored;

-- A dump may leave tables out, and a restore may fail halfway: then a pipeline refers to missing rows.
CREATE FUNCTION embed.missing_part(pipeline int, OUT what text, OUT remedy text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
#variable_conflict use_column
BEGIN
    SELECT t.what, coalesce(t.remedy, pg_catalog.format(
        'restore it from the dump, or SELECT embed_drop(%L) and create the pipeline again', p.name))
    FROM embed.pipeline p
    LEFT JOIN LATERAL (SELECT t.oid, pg_catalog.pg_get_userbyid(t.relowner) AS owner FROM pg_catalog.pg_class t
                       WHERE t.oid = pg_catalog.to_regclass(p.source_name)
                         AND t.relkind = ANY (CASE WHEN p.definition IS NULL THEN '{r,p}' ELSE '{v,m}' END::"char"[])) c ON true
    CROSS JOIN LATERAL (
        SELECT pg_catalog.format('its table %s is not in this database', p.source_name) AS what,
               pg_catalog.format('restore or create that table, or SELECT embed_drop(%L)', p.name) AS remedy
        WHERE p.source = 0 AND c.oid IS NULL
        UNION ALL
        SELECT pg_catalog.format('its table %s belongs to another role, %s instead of %s', p.source_name, c.owner, p.source_owner),
               pg_catalog.format('if it is the right one, %sGRANT %I TO %I until a worker has run; otherwise rename it, or'
                                 ' SELECT embed_drop(%L)',
                                 CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = p.source_owner)
                                      THEN pg_catalog.format('CREATE ROLE %I; ', p.source_owner) END,
                                 p.source_owner, c.owner, p.name)
        WHERE p.source = 0 AND c.oid IS NOT NULL AND embed.find_source(p.source_name, p.source_owner, p.definition IS NOT NULL) IS NULL
        UNION ALL
        SELECT 'the tables of its view are missing from embed.dependency', NULL
        WHERE p.definition IS NOT NULL
          AND EXISTS (SELECT FROM pg_catalog.pg_class k WHERE k.oid = p.source AND k.relkind = 'v')
          AND NOT EXISTS (SELECT FROM embed.dependency d WHERE d.pipeline = p.id)
          AND EXISTS (SELECT FROM embed.view_relations(p.source) w WHERE w.kind IN ('r', 'p', 'f'))
        UNION ALL
        SELECT 'its active generation is missing from embed.generation', NULL
        WHERE NOT EXISTS (SELECT FROM embed.generation g WHERE g.pipeline = p.id AND g.state = 'active')
        UNION ALL
        SELECT CASE
                   WHEN m.id IS NULL THEN pg_catalog.format('model %s of its generation %s is missing from embed.model', g.model, g.id)
                   WHEN m.endpoint IS NOT NULL AND e.name IS NULL
                       THEN pg_catalog.format('endpoint "%s" of its model "%s" is missing from embed.endpoint', m.endpoint, m.name)
                   WHEN (pg_catalog.to_regclass('embed_store.readable_' || g.id) IS NULL
                         OR pg_catalog.to_regclass('embed_store.g' || g.id) IS NULL)
                       -- A generation retired since this snapshot is not missing: pg_class is read as embed.generation is.
                       AND (SELECT count(*) FROM pg_catalog.pg_class t
                            WHERE t.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'embed_store')
                              AND t.relname IN (('readable_' || g.id)::name, ('g' || g.id)::name)) < 2
                       THEN pg_catalog.format('the table of its generation %s is missing from schema embed_store', g.id)
               END,
               CASE WHEN m.endpoint IS NOT NULL AND e.name IS NULL
                    THEN pg_catalog.format('SELECT embed_endpoint_set(%L, ''https://...'') makes it again', m.endpoint) END
        FROM embed.generation g
        LEFT JOIN embed.model m ON m.id = g.model
        LEFT JOIN embed.endpoint e ON e.name = m.endpoint
        WHERE g.pipeline = p.id) t
    WHERE p.id = missing_part.pipeline AND t.what IS NOT NULL
    LIMIT 1
    INTO what, remedy;
END
$plpgsql$;
COMMENT ON FUNCTION embed.missing_part(int) IS
    'internal: what a pipeline refers to that does not exist, as after a partial restore, and the remedy';

-- A dump may have left vectors out, and our tables can be truncated: then documents exist without their chunks.
CREATE FUNCTION embed.is_restored(pipeline int) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    RETURN (
        SELECT (p.system_identifier, p.database_oid, p.source_oid) IS DISTINCT FROM (s.system_identifier, d.oid, p.source)
        FROM embed.pipeline p, pg_catalog.pg_control_system() s, pg_catalog.pg_database d
        WHERE p.id = is_restored.pipeline AND d.datname = pg_catalog.current_database());
END
$plpgsql$;
COMMENT ON FUNCTION embed.is_restored(int) IS
    'internal: whether a pipeline was restored or cloned and no worker has processed it since';

-- A row that another session has locked is left for the next call.
CREATE FUNCTION embed.record_names() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER  -- not sql, which plans it for each call
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    UPDATE embed.pipeline p SET source_name = coalesce(n.source, p.source_name), source_owner = coalesce(n.owner, p.source_owner),
                                view_name = coalesce(n.view, p.view_name)
    FROM (SELECT o.id, t.source, t.owner, t.view
          FROM embed.pipeline o
          CROSS JOIN LATERAL (SELECT embed.qualified_name(o.source) AS source, embed.qualified_name(o.view) AS view,
                                     (SELECT pg_catalog.pg_get_userbyid(c.relowner)::text
                                      FROM pg_catalog.pg_class c WHERE c.oid = o.source) AS owner) t
          WHERE (t.source <> o.source_name OR t.owner <> o.source_owner OR t.view IS DISTINCT FROM coalesce(o.view_name, t.view)
                 OR (t.view IS NOT NULL AND o.view_name IS NULL))
            AND NOT embed.is_restored(o.id)
          FOR NO KEY UPDATE OF o SKIP LOCKED) n
    WHERE p.id = n.id;
END
$plpgsql$;
COMMENT ON FUNCTION embed.record_names() IS 'internal: stores the current names of sources, their owners and views, for a dump';

-- Called by the views only: PUBLIC has no USAGE on this schema. Plain SQL, so that current_user is the querying role.
CREATE FUNCTION embed.may_see(source regclass) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    RETURN (
        SELECT pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE')
            OR coalesce(pg_catalog.has_table_privilege(current_user, c.oid, 'SELECT'), false)
            OR coalesce(pg_catalog.has_any_column_privilege(current_user, c.oid, 'SELECT'), false)
            OR coalesce(pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE'), false)
        FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_class c ON c.oid = source);
END
$plpgsql$;
COMMENT ON FUNCTION embed.may_see(regclass) IS
    'internal: whether the querying role may see that a pipeline exists on this table';

CREATE FUNCTION embed.may_own(source regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT pg_catalog.pg_has_role(current_user, 'embed_admin', 'USAGE')
        OR coalesce((SELECT pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE')
                     FROM pg_catalog.pg_class c WHERE c.oid = source), false)
$sql$;
COMMENT ON FUNCTION embed.may_own(regclass) IS 'internal: whether the querying role may administer a pipeline on this table';

-- Errors of a generation, of its pipeline as a whole, or, for an admin, of no pipeline. One or two lock conflicts with other
-- sessions are not worth reporting.
CREATE FUNCTION embed.maintenance_problem(pipeline int, generation int, is_admin boolean) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    RETURN (
        SELECT pg_catalog.format('%s: %s (tried %s times, again at %s)', e.task, e.message, e.failures,
                                 pg_catalog.to_char(e.retry_at, 'YYYY-MM-DD HH24:MI:SS TZ'))
        FROM embed.maintenance_error e
        WHERE (e.generation = $2 OR (e.generation = 0 AND (e.pipeline = $1 OR (e.pipeline = 0 AND is_admin))))
          AND NOT (e.task = 'vector index' AND EXISTS (
                  SELECT FROM pg_catalog.pg_index i
                  WHERE i.indisvalid AND i.indexrelid = pg_catalog.to_regclass('embed_store.g' || e.generation || '_embedding_idx')))
          AND (e.failures > 2 OR e.sqlstate NOT IN ('55P03', '40P01', '55006'))
        ORDER BY e.generation DESC, e.pipeline DESC, e.last_at DESC LIMIT 1);
END
$plpgsql$;
COMMENT ON FUNCTION embed.maintenance_problem(int, int, boolean) IS
    'internal: last maintenance failure of a generation, and when it is retried';
