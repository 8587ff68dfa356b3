-- Default privileges of the database or of a schema may have granted the objects above to any role, or revoked them from
-- PUBLIC. So every object first gets PostgreSQL's own defaults; the exceptions follow.
DO $do$
DECLARE
    opened record;
BEGIN
    FOR opened IN
        WITH member AS (
            SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'evergreen'
            WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
        ), object AS (
            SELECT 'ROUTINE ' || p.oid::pg_catalog.regprocedure AS name, 'EXECUTE' AS usual, p.proowner AS owner, p.proacl AS acl
            FROM member m JOIN pg_catalog.pg_proc p ON m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = m.objid
            UNION ALL
            SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || c.oid::pg_catalog.regclass,
                   CASE WHEN c.relkind = 'v' AND c.relnamespace <> 'embed'::pg_catalog.regnamespace THEN 'SELECT' END, c.relowner, c.relacl
            FROM member m JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = m.objid
            WHERE c.relkind IN ('r', 'v', 'S')
            UNION ALL
            SELECT 'SCHEMA embed', NULL, n.nspowner, n.nspacl FROM pg_catalog.pg_namespace n WHERE n.nspname = 'embed'
        )
        SELECT o.name, o.usual, ARRAY(
            SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
            FROM pg_catalog.aclexplode(o.acl) a WHERE a.grantee <> o.owner) AS roles
        FROM object o WHERE o.acl IS NOT NULL
    LOOP
        IF opened.roles <> '{}' THEN
            EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM %s', opened.name, pg_catalog.array_to_string(opened.roles, ', '));
        END IF;
        IF opened.usual IS NOT NULL THEN
            EXECUTE pg_catalog.format('GRANT %s ON %s TO PUBLIC', opened.usual, opened.name);
        END IF;
    END LOOP;
END
$do$;

-- Everyone may execute the calls that search and administer: they check privileges themselves. Worker calls are restricted.
REVOKE EXECUTE ON FUNCTION @extschema@.embed_drain(text, int, interval) FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE @extschema@.embed_work(text, interval, boolean, int, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.embed_schedule(int, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.embed_unschedule(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.embed_claim(text, int, interval, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.embed_submit FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.embed_release(text, bigint, bytea[], text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.embed_drain(text, int, interval) TO embed_worker;
GRANT EXECUTE ON PROCEDURE @extschema@.embed_work(text, interval, boolean, int, boolean) TO embed_worker;
GRANT EXECUTE ON FUNCTION @extschema@.embed_schedule(int, text) TO embed_worker;
GRANT EXECUTE ON FUNCTION @extschema@.embed_unschedule(text) TO embed_worker;
GRANT EXECUTE ON FUNCTION @extschema@.embed_claim(text, int, interval, text) TO embed_worker;
GRANT EXECUTE ON FUNCTION @extschema@.embed_submit TO embed_worker;
GRANT EXECUTE ON FUNCTION @extschema@.embed_release(text, bigint, bytea[], text) TO embed_worker;
REVOKE EXECUTE ON FUNCTION @extschema@.embed_sleep(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.embed_sleep(text) TO embed_worker;

REVOKE EXECUTE ON FUNCTION @extschema@.embed_model_add(text, text, int, text, text, jsonb) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.embed_model_set(text, jsonb) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.embed_model_accept(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.embed_model_drop(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.embed_endpoint_set(text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.embed_model_add(text, text, int, text, text, jsonb) TO embed_admin;
GRANT EXECUTE ON FUNCTION @extschema@.embed_model_set(text, jsonb) TO embed_admin;
GRANT EXECUTE ON FUNCTION @extschema@.embed_model_accept(text) TO embed_admin;
GRANT EXECUTE ON FUNCTION @extschema@.embed_model_drop(text) TO embed_admin;
GRANT EXECUTE ON FUNCTION @extschema@.embed_endpoint_set(text, text, text, jsonb) TO embed_admin;

-- A role that may set a text's vector decides the vectors of every pipeline that uses the model.
REVOKE EXECUTE ON FUNCTION @extschema@.embed_import_vectors FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.embed_import_vectors TO embed_admin;

REVOKE EXECUTE ON FUNCTION embed.lease_end(bigint) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.held_by_worker(int, int) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.is_abandoned(bigint, timestamptz) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.refresh(int, boolean, int) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.extension_member(internal) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.runs_as_owner(int) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.session_state() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.advisory_call(text, jsonb) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.restore_session(text[]) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.report_demoted_owner() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.altered_types() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.follow_ddl() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.with_altered_types() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.follow_drop() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.drop_slot_with_extension() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.warn_of_leftovers() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.follow_rewrite() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.reject_erased_text() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.cron_problems(int) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.index_statement(int) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.rough_rows(regclass) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.partition_tree(oid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.count_documents() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.replication_obstacle(regclass, int2[]) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.unpublish_source(int) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.may_notify() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.wake() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.is_restored(int) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.qualified_name(oid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.find_source(text, text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.view_relations(oid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.view_digest(oid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.find_view(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.bind_restored() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.bind_restored_table() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.record_names() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.follow_truncate() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.recount_documents() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.skip_replicated() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.guard_generation(int) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embed.follow_subscription() FROM PUBLIC;
