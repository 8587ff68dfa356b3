-- relation(oid): what the source is, and whose
SELECT c.relname::text AS name, n.nspname::text AS schema, c.relkind::text AS kind, c.relpersistence::text AS persistence,
       c.relowner::bigint AS owner, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner_name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1

-- columns(oid): live columns with the base type below their domains
WITH RECURSIVE base AS (
    SELECT a.attnum, a.attname, a.atttypid AS type, t.typtype, t.typbasetype, a.attgenerated = 'v' AS virtual
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, b.attname, t.oid, t.typtype, t.typbasetype, b.virtual
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype
    WHERE b.typtype = 'd'
)
SELECT b.attnum::int AS attnum, b.attname::text AS name, t.oid::bigint AS type,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname) AS type_name,
       t.typname::text AS bare_type, t.typcategory::text AS category,
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
             WHERE w.oid < 16384 OR w.typtype IN ('b', 'c', 'd')) AS parts,
       coalesce((SELECT pg_catalog.quote_ident(pn.nspname) || '.' || pg_catalog.quote_ident(p.proname)
                 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
                 WHERE p.oid = t.typsend), '') AS send,
       (t.oid < 16384) AS built_in, b.virtual
FROM base b
JOIN pg_catalog.pg_type t ON t.oid = b.type AND b.typtype <> 'd'
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
ORDER BY b.attnum

-- primary_key(oid): key columns in index order with the operators of the index, qualified
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

-- foreign_code(oid, bool): a function that a key column's type runs on its values, and that a role without superuser could replace
-- Of each type in it: input and output, statistics, what a range calls, and the default operator classes, which indexes,
-- ANALYZE and the planner take their functions from.
WITH RECURSIVE part (attnum, type) AS (
    SELECT a.attnum, a.atttypid
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
    WHERE i.indrelid = $1 AND i.indisprimary
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
    WHERE i.indrelid = $1 AND i.indisprimary
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

-- source_oid(text): the table that was named
SELECT $1::pg_catalog.regclass::oid::bigint
