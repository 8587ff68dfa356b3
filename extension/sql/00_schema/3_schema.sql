-- The catalog and the queue. Generation tables live in embed_store, made by the first embed_create and never a member:
-- DROP EXTENSION must not drop vectors that were paid for, and pg_dump must keep them.
CREATE SCHEMA embed;
COMMENT ON SCHEMA embed IS 'evergreen: catalog, queue and bookkeeping; use the embed_* functions and views instead';
REVOKE ALL ON SCHEMA embed FROM PUBLIC;
