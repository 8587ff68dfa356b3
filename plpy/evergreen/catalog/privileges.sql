-- grantees(text, text): roles other than its owner that have a privilege on an object, quoted
SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS name
FROM (SELECT p.proowner AS owner, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)) AS acl
      FROM pg_catalog.pg_proc p WHERE $1 = 'FUNCTION' AND p.oid = pg_catalog.to_regprocedure($2)
      UNION ALL
      SELECT c.relowner, c.relacl FROM pg_catalog.pg_class c
      WHERE $1 IN ('TABLE', 'SEQUENCE') AND c.oid = pg_catalog.to_regclass($2)
      UNION ALL
      SELECT n.nspowner, n.nspacl FROM pg_catalog.pg_namespace n
      WHERE $1 = 'SCHEMA' AND n.oid = pg_catalog.to_regnamespace($2)) o
CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
WHERE a.grantee <> o.owner

-- revoke(): all that it has
REVOKE ALL ON {kind} {name} FROM {grantee} CASCADE
