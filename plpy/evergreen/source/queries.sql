-- relation(oid): kind and owner of the source
SELECT c.relname::text AS name, n.nspname::text AS schema, c.relkind::text AS kind, c.relpersistence::text AS persistence,
       c.relowner::bigint AS owner, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner_name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1

-- columns(oid): live columns, with the base types of their domains.
-- (SELECT $1): with $1 itself the planner knew the number of columns and made a new plan for each call, 0.6 of its 0.7 ms.
-- The first CASE is what the recursion gives for most types.
WITH RECURSIVE base AS (
    SELECT a.attnum, a.attname, a.atttypid AS type, t.typtype, t.typbasetype, a.attgenerated = 'v' AS virtual,
           t.typtype = 'd' AS is_domain
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = (SELECT $1) AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, b.attname, t.oid, t.typtype, t.typbasetype, b.virtual, b.is_domain
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype
    WHERE b.typtype = 'd'
)
SELECT b.attnum::int AS attnum, b.attname::text AS name, t.oid::bigint AS type,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname) AS type_name,
       t.typname::text AS bare_type, t.typcategory::text AS category,
       CASE WHEN t.oid < 16384 AND t.typtype = 'b' AND t.typcategory <> 'A' THEN ARRAY[t.typname::text] ELSE
       ARRAY(WITH RECURSIVE part AS (
                 SELECT t.oid AS type
                 UNION
                 SELECT x.oid
                 FROM part q
                 JOIN pg_catalog.pg_type w ON w.oid = q.type
                 CROSS JOIN LATERAL (
                     SELECT w.typelem WHERE w.typcategory = 'A'
                     UNION ALL SELECT w.typbasetype WHERE w.typtype = 'd'
                     UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE w.oid IN (r.rngtypid, r.rngmultitypid)
                     UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
                               WHERE a.attrelid = w.typrelid AND w.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
                 ) x (oid))
             SELECT CASE WHEN w.typtype = 'd' THEN 'domain' WHEN w.typtype = 'c' THEN 'composite' WHEN w.oid < 16384 THEN w.typname::text ELSE '' END
             FROM part q JOIN pg_catalog.pg_type w ON w.oid = q.type
             WHERE w.oid < 16384 OR w.typtype IN ('b', 'c', 'd')) END AS parts,
       coalesce((SELECT pg_catalog.quote_ident(pn.nspname) || '.' || pg_catalog.quote_ident(p.proname)
                 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
                 WHERE p.oid = t.typsend), '') AS send,
       (t.oid < 16384) AS built_in, b.virtual, b.is_domain
FROM base b
JOIN pg_catalog.pg_type t ON t.oid = b.type AND b.typtype <> 'd'
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
ORDER BY b.attnum

-- primary_key(oid): key columns in index order, with the index's operators, qualified
SELECT k.attnum::int AS attnum,
       (SELECT 'OPERATOR(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')'
        FROM pg_catalog.pg_amop m JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
        JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
        WHERE m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
          AND m.amopstrategy = 3) AS equal,
       (SELECT 'OPERATOR(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')'
        FROM pg_catalog.pg_amop m JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
        JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
        WHERE m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
          AND m.amopstrategy = 5) AS greater
FROM pg_catalog.pg_index i,
     ROWS FROM (pg_catalog.unnest(i.indkey::int2[]), pg_catalog.unnest(i.indclass::oid[]))
         WITH ORDINALITY k (attnum, opclass, position)
JOIN pg_catalog.pg_opclass c ON c.oid = k.opclass
WHERE i.indrelid = $1 AND i.indisprimary AND k.position <= i.indnkeyatts
ORDER BY k.position

-- type_operators(oid, int4[]): the same operators for the default index of each column's type, NULL if it has none; in this order
SELECT a.attnum::int AS attnum, o.equal, o.greater
FROM pg_catalog.unnest($2) WITH ORDINALITY u (attnum, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = u.attnum
CROSS JOIN LATERAL (
    WITH RECURSIVE base AS (
        SELECT y.oid, y.typtype, y.typbasetype, y.typcategory FROM pg_catalog.pg_type y WHERE y.oid = a.atttypid
        UNION ALL
        SELECT y.oid, y.typtype, y.typbasetype, y.typcategory FROM base b JOIN pg_catalog.pg_type y ON y.oid = b.typbasetype
        WHERE b.typtype = 'd'
    )
    SELECT b.oid, b.typtype, b.typcategory FROM base b WHERE b.typtype <> 'd') t
LEFT JOIN LATERAL (
    SELECT pg_catalog.max(x.name) FILTER (WHERE x.strategy = 3) AS equal, pg_catalog.max(x.name) FILTER (WHERE x.strategy = 5) AS greater
    FROM (SELECT c.opcfamily, c.opcintype
          FROM pg_catalog.pg_opclass c JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
          JOIN pg_catalog.pg_type i ON i.oid = c.opcintype
          WHERE c.opcdefault
            AND (c.opcintype = t.oid
                 OR c.opcintype = CASE WHEN t.typtype = 'e' THEN 'pg_catalog.anyenum'::pg_catalog.regtype
                                       WHEN t.typtype = 'r' THEN 'pg_catalog.anyrange'::pg_catalog.regtype
                                       WHEN t.typtype = 'm' THEN 'pg_catalog.anymultirange'::pg_catalog.regtype
                                       WHEN t.typcategory = 'A' THEN 'pg_catalog.anyarray'::pg_catalog.regtype END
                 OR EXISTS (SELECT FROM pg_catalog.pg_cast s WHERE s.castsource = t.oid AND s.casttarget = c.opcintype
                            AND s.castmethod = 'b' AND s.castcontext = 'i'))
          ORDER BY c.opcintype = t.oid DESC, i.typispreferred DESC, c.oid LIMIT 1) k
    CROSS JOIN LATERAL (
        SELECT p.amopstrategy AS strategy, 'OPERATOR(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')' AS name
        FROM pg_catalog.pg_amop p JOIN pg_catalog.pg_operator o ON o.oid = p.amopopr
        JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
        WHERE p.amopfamily = k.opcfamily AND p.amoplefttype = k.opcintype AND p.amoprighttype = k.opcintype) x) o ON true
ORDER BY u.place

-- untrusted_function(oid, bool, int4[]): a function that the type of one of these columns runs on its values and that a non-superuser could replace.
-- For each type involved: input and output, statistics, functions called by a range, and the default operator classes, from
-- which indexes, ANALYZE and the planner take their functions.
WITH RECURSIVE part (attnum, type) AS (
    SELECT a.attnum, a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum = ANY ($3::pg_catalog.int2[])
    UNION
    SELECT q.attnum, x.oid
    FROM part q
    JOIN pg_catalog.pg_type w ON w.oid = q.type
    CROSS JOIN LATERAL (
        SELECT w.typelem WHERE w.typelem <> 0
        UNION ALL SELECT w.typbasetype WHERE w.typtype = 'd'
        UNION ALL SELECT v.type FROM pg_catalog.pg_range r, pg_catalog.unnest(ARRAY[r.rngtypid, r.rngsubtype]) v (type)
                  WHERE w.oid IN (r.rngtypid, r.rngmultitypid)
    ) x (oid)
), class (attnum, family, type) AS (
    SELECT p.attnum, c.opcfamily, c.opcintype
    FROM part p JOIN pg_catalog.pg_opclass c ON c.opcintype = p.type AND c.opcdefault
    UNION
    SELECT k.attnum, c.opcfamily, c.opcintype
    FROM pg_catalog.pg_index i,
         ROWS FROM (pg_catalog.unnest(i.indkey::int2[]), pg_catalog.unnest(i.indclass::oid[])) k (attnum, opclass)
    JOIN pg_catalog.pg_opclass c ON c.oid = k.opclass
    WHERE i.indrelid = $1 AND i.indisprimary AND k.attnum = ANY ($3::pg_catalog.int2[])
    UNION
    SELECT p.attnum, c.opcfamily, c.opcintype
    FROM part p JOIN pg_catalog.pg_range r ON r.rngtypid = p.type JOIN pg_catalog.pg_opclass c ON c.oid = r.rngsubopc
), code (attnum, function) AS (
    SELECT p.attnum, f.oid
    FROM part p JOIN pg_catalog.pg_type w ON w.oid = p.type
    CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[w.typinput::oid, w.typoutput, w.typreceive, w.typsend, w.typmodin, w.typmodout,
                                               w.typanalyze, w.typsubscript]) f (oid)
    WHERE NOT $2
    UNION ALL
    SELECT p.attnum, f.oid
    FROM part p JOIN pg_catalog.pg_range r ON r.rngtypid = p.type
    CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[r.rngcanonical::oid, r.rngsubdiff]) f (oid)
    WHERE NOT $2
    UNION ALL
    SELECT c.attnum, m.amproc::oid
    FROM class c JOIN pg_catalog.pg_amproc m ON m.amprocfamily = c.family AND c.type IN (m.amproclefttype, m.amprocrighttype)
    UNION ALL
    SELECT c.attnum, f.oid
    FROM class c JOIN pg_catalog.pg_amop m ON m.amopfamily = c.family AND c.type IN (m.amoplefttype, m.amoprighttype)
    JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
    CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[o.oprcode::oid, o.oprrest, o.oprjoin]) f (oid)
)
SELECT c.attnum::int AS attnum, p.oid::pg_catalog.regprocedure::text AS function
FROM code c JOIN pg_catalog.pg_proc p ON p.oid = c.function
JOIN pg_catalog.pg_roles r ON r.oid = p.proowner AND NOT r.rolsuper
WHERE p.oid >= 16384
ORDER BY c.attnum, p.oid
LIMIT 1

-- source_oid(text): the named table
SELECT $1::pg_catalog.regclass::oid::bigint

-- store_schema_owner(): whether the schema exists and belongs to the extension's owner: another owner could replace what we run
SELECT n.nspowner = e.extowner AS ours
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.nspname = 'embed_store' WHERE e.extname = 'evergreen'

-- roles_with_create(): roles that may create objects in it, quoted
SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS name
FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
WHERE n.nspname = 'embed_store' AND a.grantee <> n.nspowner AND a.privilege_type = 'CREATE'

-- revoke_create(): only the extension's owner may create functions there
REVOKE CREATE ON SCHEMA embed_store FROM {role} CASCADE

-- create_store_schema(): created by the first embed_create; never a member of the extension
CREATE SCHEMA embed_store

-- comment_store_schema(): describes the schema
COMMENT ON SCHEMA embed_store IS 'evergreen: vectors and generated functions; read them through the <pipeline>_embedding views'

-- replace_function(): creates a generated function; {body} is a quoted string, so nothing in it can end it
CREATE OR REPLACE FUNCTION {signature} RETURNS {returns}
LANGUAGE {language} {volatility} {security} SUPPORT embed.extension_member
SET search_path = pg_catalog, pg_temp{settings}
AS {body}

-- replace_inlined_function(): the same without SET, which would prevent inlining
CREATE OR REPLACE FUNCTION {signature} RETURNS {returns}
LANGUAGE sql STABLE SUPPORT embed.extension_member
AS {body}

-- set_body_checks(text): whether CREATE FUNCTION checks bodies from now on; returns the previous setting
SELECT pg_catalog.current_setting('check_function_bodies') AS before, pg_catalog.set_config('check_function_bodies', $1, true)

-- grant_execute_to_public(): the function runs with the caller's privileges
GRANT EXECUTE ON FUNCTION {signature} TO PUBLIC

-- grant_execute(): the owner of a partitioned table creates partitions, and with them copies of our triggers
GRANT EXECUTE ON FUNCTION {signature} TO {role}

-- set_function_owner(): user code that it runs (casts, domain checks) runs as the user
ALTER FUNCTION {signature} OWNER TO {owner}

-- owner_to_restore(text): the extension's owner, quoted, if a function belongs to another role.
-- A function that existed before ours was created keeps its owner, who could replace it.
SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.extowner))
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_proc p ON p.proowner <> e.extowner
WHERE e.extname = 'evergreen' AND p.oid = pg_catalog.to_regprocedure($1)

-- comment_function(): describes the function
COMMENT ON FUNCTION {signature} IS {comment}

-- drop_function(): drops a generated function that is no longer needed
DROP FUNCTION IF EXISTS {signature}

-- reader_body(): rows for a JSON array of keys; a row that only compares equal to a key (citext) is a different row
SELECT k.ord::pg_catalog.int4, {src_hash}, {content}, {wrapper}{copies}
FROM pg_catalog.jsonb_array_elements($1) WITH ORDINALITY k (key, ord)
JOIN {source} s ON {matches}
WHERE {key_document} OPERATOR(pg_catalog.=) k.key

-- reader_grouped_body(): the same for a view that aggregates: OFFSET 0 has it look up each key instead of aggregating all rows
SELECT k.ord::pg_catalog.int4, {src_hash}, {content}, {wrapper}{copies}
FROM pg_catalog.jsonb_array_elements($1) WITH ORDINALITY k (key, ord)
CROSS JOIN LATERAL (SELECT s.* FROM {source} s WHERE {matches} OFFSET 0) s
WHERE {key_document} OPERATOR(pg_catalog.=) k.key

-- scan_body(): the next keys in primary-key order, by index
BEGIN
    IF $1 IS NULL THEN
        RETURN QUERY SELECT {key_document} FROM {source} s ORDER BY {order} LIMIT $2;
    ELSE
        RETURN QUERY SELECT {key_document} FROM {source} s WHERE {after} ORDER BY {order} LIMIT $2;
    END IF;
END

-- scan_declared_body(): the same for a view: each key once, without NULLs
BEGIN
    IF $1 IS NULL THEN
        RETURN QUERY SELECT DISTINCT ON ({order}) {key_document} FROM {source} s WHERE {not_null} ORDER BY {order} LIMIT $2;
    ELSE
        RETURN QUERY SELECT DISTINCT ON ({order}) {key_document} FROM {source} s WHERE {not_null} AND ({after})
                     ORDER BY {order} LIMIT $2;
    END IF;
END

-- count_view_body(): number of rows of a view; the planner's estimate where counting would take long
DECLARE
    plan pg_catalog.json;
BEGIN
    EXECUTE {explain} INTO plan;
    IF (plan OPERATOR(pg_catalog.#>>) '{0,Plan,Total Cost}')::pg_catalog.float8 OPERATOR(pg_catalog.<) 5000 THEN
        RETURN (SELECT count(*) FROM {source});
    END IF;
    RETURN (plan OPERATOR(pg_catalog.#>>) '{0,Plan,Plan Rows}')::pg_catalog.int8;
END

-- count_body(): number of rows
BEGIN
    RETURN (SELECT count(*) FROM {source});
END

-- key_body(): stored form of a user's key: as in the row it compares equal to (citext, char), if there is one
SELECT coalesce((SELECT {row_key} FROM {source} r WHERE {matches} LIMIT 1),
                (SELECT {key_document} FROM (SELECT {values}) s ({names})))

-- current_name(int4): name of the source, and whether it is a materialized view
SELECT embed.qualified_name(p.source) AS name, c.relkind = 'm' AS is_materialized
FROM embed.pipeline p JOIN pg_catalog.pg_class c ON c.oid = p.source WHERE p.id = $1

-- source_owner(int4): owner of the source
SELECT pg_catalog.pg_get_userbyid(c.relowner)::text AS owner FROM embed.pipeline p JOIN pg_catalog.pg_class c ON c.oid = p.source
WHERE p.id = $1

-- lock_source(): keeps the source from being renamed until this is rolled back
LOCK TABLE ONLY {source} IN ACCESS SHARE MODE

-- lock_materialized_view(): the same; LOCK TABLE does not take these
SELECT FROM {source} LIMIT 0

-- is_bound_to(int4, text): whether this is the source, and its functions were generated for this name, and those of the tables
-- that a view reads
SELECT p.bound_name = $2 AND pg_catalog.to_regclass($2) = p.source
   AND NOT EXISTS (SELECT FROM embed.dependency d
                   WHERE d.pipeline = p.id AND embed.qualified_name(d.base) IS DISTINCT FROM d.base_name)
FROM embed.pipeline p WHERE p.id = $1

-- runs_as_owner(int4): whether the functions that read the source run as its owner
SELECT embed.runs_as_owner($1)

-- read_rows(jsonb): current source rows for a JSON array of keys; {reader} is the generation's reader function
SELECT r.ord, r.src_hash, r.content, r.wrapper, {copies} AS copies FROM {reader}($1) r

-- scan_keys(jsonb, int4): the next keys of the source in key order; {scan} is the pipeline's scan function
SELECT s.key::pg_catalog.text AS key FROM {scan}($1, $2) s (key)

-- canonical_keys(jsonb[]): keys in their stored form; {canonical} is the pipeline's key function
SELECT {canonical}(u.key)::pg_catalog.text AS key FROM pg_catalog.unnest($1) WITH ORDINALITY u (key, place) ORDER BY u.place

-- is_restricted(int8[], int8): whether row security applies to the caller on one of these tables, or the caller has not the rights
-- of this role
SELECT EXISTS (SELECT FROM pg_catalog.unnest($1) t (oid) WHERE pg_catalog.row_security_active(t.oid::pg_catalog.oid))
    OR coalesce(NOT pg_catalog.pg_has_role($2::pg_catalog.oid, 'USAGE'), false)

-- sees_any(jsonb[]): whether the caller sees a row with any of these keys.
-- Does not compare stored keys: their text depends on settings, which are the caller's here, as the policies may depend on
-- them. MATERIALIZED: a cast is not leakproof, so the planner would not use the key's index before the policies.
WITH k AS MATERIALIZED (SELECT u.key FROM pg_catalog.unnest($1) u (key))
SELECT EXISTS (SELECT FROM k JOIN {source} s ON {matches})

-- rows_estimate(oid): number of rows that will be checked
SELECT embed.estimate_rows($1::pg_catalog.regclass)
