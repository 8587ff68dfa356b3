-- What a view reads: the rewrite rule of a view depends on each relation in it, and on the columns that it uses. Through the
-- views below it; a materialized view is not looked into. A whole-row reference names no column: then every column counts.
CREATE FUNCTION embed.view_relations(view oid) RETURNS TABLE (relation oid, kind "char", attnums int2[])
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    WITH RECURSIVE tree AS (
        SELECT c.oid AS relation, c.relkind AS kind FROM pg_class c WHERE c.oid = view
        UNION
        SELECT x.oid, x.relkind
        FROM tree t
        JOIN pg_rewrite r ON r.ev_class = t.relation AND r.rulename = '_RETURN' AND t.kind = 'v'
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
                        AND d.deptype = 'n'
        JOIN pg_class x ON x.oid = d.refobjid AND x.relkind IN ('r', 'p', 'f', 'm', 'v')
    )
    SELECT t.relation, t.kind, u.attnums
    FROM tree t
    LEFT JOIN LATERAL (
        SELECT array_agg(DISTINCT a.attnum ORDER BY a.attnum) AS attnums
        FROM tree v
        JOIN pg_rewrite r ON r.ev_class = v.relation AND r.rulename = '_RETURN' AND v.kind = 'v'
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
                        AND d.refobjid = t.relation
        JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum > 0 AND NOT a.attisdropped
                           AND (a.attnum = d.refobjsubid OR r.ev_action::text ~ ':varattno 0 ')) u ON true
$sql$;
COMMENT ON FUNCTION embed.view_relations(oid) IS
    'internal: a view and all relations that it reads, through nested views, with the columns that are used';

-- Built-in functions are pinned and so no dependencies: their numbers are in the text of the rule. In PL/pgSQL, which keeps the
-- plan: workers call it each time they look for work.
CREATE FUNCTION embed.view_digest(view oid) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    rules text;
BEGIN
    SELECT string_agg(r.ev_action::text, '' ORDER BY v.relation) INTO rules
    FROM embed.view_relations(view) v
    JOIN pg_rewrite r ON r.ev_class = v.relation AND r.rulename = '_RETURN' AND v.kind = 'v';
    IF rules ~ '[{](SQLVALUEFUNCTION|NEXTVALUEEXPR) '
       OR EXISTS (SELECT FROM regexp_matches(rules, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([0-9]+)', 'g') m (found)
                  JOIN pg_proc p ON p.oid = m.found[1]::oid AND p.provolatile <> 'i') THEN
        RETURN concat('reader ', md5(rules));
    END IF;
    RETURN md5(coalesce(rules, ''));
END
$plpgsql$;
COMMENT ON FUNCTION embed.view_digest(oid) IS
    'internal: a hash of the queries of a view and of the views that it reads, after "reader" if it calls a function whose result '
    'may depend on who reads, such as current_user';
