-- A line an object: what it is | its owner | which role has which privileges beyond those of PUBLIC | what else matters.
WITH role (name) AS (
    VALUES ('public'), ('embed_admin'), ('embed_worker'), ('embed_user'), ('alice'), ('bob')
), member AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'evergreen'
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
), relation AS (
    SELECT c.* FROM pg_class c
    WHERE c.oid IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_class'::regclass)
       OR c.relnamespace IN (to_regnamespace('embed'), to_regnamespace('embed_store'), to_regnamespace('alice'))
), routine AS (
    SELECT p.* FROM pg_proc p
    WHERE p.oid IN (SELECT m.objid FROM member m WHERE m.classid = 'pg_proc'::regclass)
       OR p.pronamespace IN (to_regnamespace('embed'), to_regnamespace('embed_store'), to_regnamespace('alice'))
), right_on (object, owner, role, privilege, held, remark) AS (
    SELECT CASE r.relkind WHEN 'S' THEN 'sequence ' WHEN 'v' THEN 'view ' WHEN 'p' THEN 'table ' WHEN 'r' THEN 'table ' END
               || r.oid::regclass,
           r.relowner, o.name, p.name,
           CASE r.relkind WHEN 'S' THEN p.of_sequences AND has_sequence_privilege(o.name, r.oid, p.name)
                          ELSE has_table_privilege(o.name, r.oid, p.name) END,
           concat_ws(', ', CASE WHEN r.relrowsecurity THEN 'row security' END, (
               SELECT string_agg(x, ', ') FROM unnest(r.reloptions) x WHERE x ~ '^security'))
    FROM relation r, role o,
         (VALUES ('SELECT', true), ('INSERT', false), ('UPDATE', true), ('DELETE', false), ('TRUNCATE', false),
                 ('REFERENCES', false), ('TRIGGER', false)) p (name, of_sequences)
    WHERE r.relkind IN ('r', 'p', 'v', 'S') AND (r.relkind <> 'S' OR p.of_sequences)
    UNION ALL
    SELECT 'sequence ' || r.oid::regclass, r.relowner, o.name, 'USAGE', has_sequence_privilege(o.name, r.oid, 'USAGE'), ''
    FROM relation r, role o WHERE r.relkind = 'S'
    UNION ALL
    SELECT 'column ' || r.oid::regclass || '.' || a.attname, r.relowner, o.name, p.name,
           has_column_privilege(o.name, r.oid, a.attnum, p.name), ''
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND a.attacl IS NOT NULL, role o,
         (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('REFERENCES')) p (name)
    UNION ALL
    SELECT CASE f.prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END || f.oid::regprocedure, f.proowner, o.name,
           'EXECUTE', has_function_privilege(o.name, f.oid, 'EXECUTE'),
           concat_ws(', ', l.lanname, CASE WHEN f.prosecdef THEN 'SECURITY DEFINER' END,
                     (SELECT x FROM unnest(f.proconfig) x WHERE x ~ '^search_path='),
                     (SELECT x FROM unnest(f.proconfig) x WHERE x ~ '^row_security='))
    FROM routine f JOIN pg_language l ON l.oid = f.prolang, role o
    UNION ALL
    SELECT 'schema ' || n.nspname, n.nspowner, o.name, p.name, has_schema_privilege(o.name, n.oid, p.name), ''
    FROM pg_namespace n, role o, (VALUES ('USAGE'), ('CREATE')) p (name) WHERE n.nspname IN ('embed', 'embed_store')
    UNION ALL
    SELECT 'language ' || l.lanname, l.lanowner, o.name, 'USAGE', has_language_privilege(o.name, l.oid, 'USAGE'),
           CASE WHEN l.lanpltrusted THEN 'trusted' ELSE 'for superusers only' END
    FROM pg_language l, role o WHERE l.lanname IN ('plpgsql', 'plpython3u', 'sql')
    UNION ALL
    SELECT 'types in ' || n.nspname, n.nspowner, o.name, 'USAGE', bool_and(has_type_privilege(o.name, t.oid, 'USAGE')),
           string_agg(CASE WHEN t.typacl IS NOT NULL OR t.typtype <> 'c' AND t.typcategory <> 'A' THEN t.typname::text END, ', ')
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace, role o WHERE n.nspname IN ('embed', 'embed_store')
    GROUP BY n.nspname, n.nspowner, o.name
    UNION ALL
    SELECT format('trigger %s on %s calls %s', regexp_replace(t.tgname, '_\d+$', ''), t.tgrelid::regclass, t.tgfoid::regproc),
           c.relowner, o.name, '', false, CASE t.tgenabled WHEN 'A' THEN 'always' END
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid, role o
    WHERE NOT t.tgisinternal AND c.oid IN (SELECT oid FROM relation)
    UNION ALL
    SELECT format('event trigger %s on %s calls %s', t.evtname, t.evtevent, t.evtfoid::regproc), t.evtowner, o.name, '', false,
           CASE t.evtenabled WHEN 'A' THEN 'always' END
    FROM pg_event_trigger t, role o
    UNION ALL
    SELECT format('policy %s on %s for %s', p.polname, p.polrelid::regclass, p.polcmd), c.relowner, o.name, '', false,
           pg_get_expr(p.polqual, p.polrelid)
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid AND c.oid IN (SELECT oid FROM relation), role o
    UNION ALL
    SELECT 'default privileges of ' || a.defaclrole::regrole, a.defaclrole, o.name, '', false, a.defaclacl::text
    FROM pg_default_acl a, role o
    UNION ALL
    SELECT 'role ' || r.rolname, r.oid, o.name, 'MEMBER', o.name <> 'public' AND o.name <> r.rolname
               AND pg_has_role(nullif(o.name, 'public'), r.oid, 'MEMBER'),
           concat_ws(', ', CASE WHEN r.rolsuper THEN 'superuser' END, CASE WHEN r.rolcanlogin THEN 'login' END,
                     CASE WHEN r.rolbypassrls THEN 'bypassrls' END, CASE WHEN r.rolcreaterole THEN 'createrole' END)
    FROM pg_roles r, role o WHERE r.rolname LIKE 'embed\_%'
), held AS (
    SELECT r.object, r.owner, r.remark, r.role, string_agg(r.privilege, ' ' ORDER BY r.privilege) AS privileges
    FROM right_on r
    WHERE r.held AND (r.role = 'public' OR NOT EXISTS (
        SELECT FROM right_on p
        WHERE p.object = r.object AND p.role = 'public' AND p.privilege = r.privilege AND p.held))
      AND NOT (r.role = 'alice' AND r.owner = 'alice'::regrole)
    GROUP BY r.object, r.owner, r.remark, r.role
)
SELECT concat_ws(' | ', a.object, pg_get_userbyid(a.owner),
                 coalesce(string_agg(CASE h.role WHEN 'public' THEN 'PUBLIC' ELSE h.role END || ' ' || h.privileges, '; '
                                     ORDER BY h.role <> 'public', h.role), '-'),
                 nullif(a.remark, ''))
FROM (SELECT DISTINCT object, owner, remark FROM right_on) a
LEFT JOIN held h USING (object)
GROUP BY a.object, a.owner, a.remark
