-- bare_name(oid): a relation's name without its schema
SELECT c.relname::text FROM pg_catalog.pg_class c WHERE c.oid = $1
