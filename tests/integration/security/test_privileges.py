"""Who may run, read and write what: the whole list, so that a new object without thought given to it fails here."""

import pytest

pytestmark = pytest.mark.shared_database

FUNCTIONS = {
    "PUBLIC": """
        embed embed_query embed_search embed_search_rows
        embed_search_rows_pipeline embed_search_rows_sql embed_search_rows_typed
        embed_alter embed_capture_set embed_chunk_none embed_chunk_text embed_chunk_markdown embed_chunk_html
        embed_chunk_recursive embed_chunk_separator
        embed_create embed_drop embed_explain embed_get_def embed_pause
        embed_build embed_compare embed_bridge embed_bridge_drop embed_promote embed_rollback embed_retire
        embed_resume embed_setting embed_touch embed_verify embed_retry embed_forget embed_estimate embed_preview
        embed_batch_cancel
        embed_wait embed_backfill
        embed_elevate embed_elevate_stable
        may_see may_own slot_name slot_lag estimate_rows planned_rows documents estimate_chunks spent_budgets
        late_since oldest_live_change
        change_log_figures failure_figures job_figures lag_percentiles usage_totals
        maintenance_problem endpoint_state model_problem endpoint_problem model_limits missing_part
        model_change documents_without_vectors rows_in_batch depends""",
    "embed_worker": """
        embed_drain embed_work embed_sleep embed_schedule embed_unschedule embed_claim embed_submit embed_release""",
    "embed_admin": """
        embed_model_add embed_model_set embed_model_accept embed_model_drop embed_endpoint_set embed_import_vectors""",
    "the extension's owner alone": """
        warn_of_leftovers partition_tree extension_member lease_end held_by_worker is_abandoned rough_rows refresh
        follow_ddl follow_drop follow_rewrite drop_slot_with_extension unpublish_source replication_obstacle
        reject_erased_text count_documents cron_problems
        index_statement may_notify wake skip_replicated guard_generation follow_subscription restore_session
        report_demoted_owner
        advisory_call session_state is_restored follow_truncate recount_documents with_altered_types
        altered_types runs_as_owner qualified_name find_source find_view bind_restored record_names
        bind_restored_table view_relations view_digest""",
}
VIEWS = """
    embed_pipelines embed_status embed_usage embed_models embed_endpoints embed_failures embed_generations
    embed_batches"""
RELATIONS = {name: {("PUBLIC", "SELECT")} for name in VIEWS.split()}
# The doors, the event triggers and what views read of counters and row counts run with the extension's rights.
DEFINERS = {
    "embed_elevate",
    "embed_elevate_stable",
    "refresh",
    "follow_ddl",
    "follow_drop",
    "follow_rewrite",
    "drop_slot_with_extension",
    "follow_subscription",
    "skip_replicated",
    "unpublish_source",
    "slot_lag",
    "missing_part",
    "model_change",
    "is_restored",
    "bind_restored",
    "bind_restored_table",
    "depends",
    "record_names",
    "documents_without_vectors",
    "follow_truncate",
    "recount_documents",
    "restore_session",
    "report_demoted_owner",
    "estimate_rows",
    "planned_rows",
    "documents",
    "rows_in_batch",
    "estimate_chunks",
    "spent_budgets",
    "late_since",
    "oldest_live_change",
    "change_log_figures",
    "failure_figures",
    "job_figures",
    "lag_percentiles",
    "usage_totals",
    "maintenance_problem",
    "endpoint_state",
    "model_problem",
    "wake",
}

KIND = "CASE o.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\""

MEMBERS = """
FROM pg_depend d JOIN pg_extension e ON e.extname = 'evergreen' AND d.refobjid = e.oid
    AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
"""


def granted(db, catalog, name, acl, kind, owner):
    rows = db.execute(
        f"""
        SELECT o.{name}, coalesce(r.rolname, CASE WHEN a.grantee = 0 THEN 'PUBLIC' END), a.privilege_type
        {MEMBERS} AND d.classid = '{catalog}'::regclass
        JOIN {catalog} o ON o.oid = d.objid
        LEFT JOIN LATERAL aclexplode(coalesce(o.{acl}, acldefault({kind}, o.{owner}))) a ON a.grantee <> o.{owner}
        LEFT JOIN pg_roles r ON r.oid = a.grantee"""
    ).fetchall()
    found = {name: set() for name, _, _ in rows}
    for object_name, who, what in rows:
        if who is not None:
            found[object_name].add((who, what))
    return found


def test_execute_is_granted_as_the_table_says(db):
    found = granted(db, "pg_proc", "proname", "proacl", "'f'", "proowner")
    expected = {name: {(who, "EXECUTE")} for who, names in FUNCTIONS.items() for name in names.split()}
    for name in FUNCTIONS["the extension's owner alone"].split():
        expected[name] = set()
    assert found == expected


def test_relations_are_closed_but_for_the_views(db):
    found = granted(
        db, "pg_class", "relname", "relacl", "CASE o.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\"", "relowner"
    )
    assert {"job", "document", "token", "change_log", "failure", "cache", "endpoint"} <= set(found)
    assert {name: rights for name, rights in found.items() if rights} == RELATIONS


def test_schemas_are_closed(db, docs):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}')")
    for schema in ("embed", "embed_store"):
        for role in ("public", "embed_user", "embed_worker", "embed_admin"):
            rights = f"SELECT has_schema_privilege('{role}', '{schema}', 'USAGE, CREATE')"
            assert db.execute(rights).fetchone() == (False,), (schema, role)


def test_generated_objects_are_closed_but_for_reading_what_the_source_gives(db, docs):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}')")
    functions = db.execute(
        """SELECT regexp_replace(p.proname, '_\\d+$', ''), p.prosecdef,
                  has_function_privilege('public', p.oid, 'EXECUTE')
           FROM pg_proc p WHERE p.pronamespace = 'embed_store'::regnamespace"""
    ).fetchall()
    assert {name: (definer, public) for name, definer, public in functions} == {
        "capture": (True, False),
        "count": (True, False),
        "reader": (True, False),
        "scan": (True, False),
        "key": (True, False),
        "src": (False, True),  # inlined into the view: the reader's own rights on the source count
    }
    tables = db.execute(
        """SELECT c.relrowsecurity, array_agg(a.privilege_type ORDER BY 1)
           FROM pg_class c, aclexplode(c.relacl) a
           WHERE c.relnamespace = 'embed_store'::regnamespace AND c.relkind IN ('r', 'p') AND a.grantee = 0
           GROUP BY c.oid"""
    ).fetchall()
    assert tables == [(True, ["SELECT"])]


def test_roles_contain_each_other_as_documented(db):
    rows = db.execute(
        """SELECT r.rolname, m.rolname FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid
           JOIN pg_roles m ON m.oid = a.member WHERE r.rolname LIKE 'embed\\_%' AND m.rolname LIKE 'embed\\_%'"""
    ).fetchall()
    assert set(rows) == {("embed_worker", "embed_admin"), ("embed_user", "embed_admin")}
    kinds = db.execute(
        """SELECT DISTINCT rolsuper, rolcanlogin, rolcreaterole, rolbypassrls
           FROM pg_roles WHERE rolname LIKE 'embed\\_%'"""
    ).fetchall()
    assert kinds == [(False, False, False, False)]


def test_only_what_must_runs_with_the_extensions_rights(db):
    rows = db.execute(f"SELECT p.proname {MEMBERS} JOIN pg_proc p ON p.oid = d.objid WHERE p.prosecdef").fetchall()
    assert {name for (name,) in rows} == DEFINERS


def test_every_function_pins_its_search_path(db, docs):
    """With a SET clause embed_work could not commit, src_N could not be inlined; extension_member is built-in C."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}')")
    rows = db.execute(
        f"""SELECT regexp_replace(p.proname, '_\\d+$', '')
            FROM pg_proc p
            WHERE (p.oid IN (SELECT d.objid {MEMBERS} AND d.classid = 'pg_proc'::regclass)
                   OR p.pronamespace = 'embed_store'::regnamespace)
              AND NOT coalesce(p.proconfig, '{{}}') @> '{{"search_path=pg_catalog, pg_temp"}}'"""
    ).fetchall()
    assert sorted(name for (name,) in rows) == ["embed_work", "extension_member", "src"]


def test_every_object_says_what_it_is(db, docs):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}')")
    rows = db.execute(
        f"""
        SELECT pg_describe_object(d.classid, d.objid, 0) {MEMBERS}
        LEFT JOIN pg_class c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass
        WHERE (c.oid IS NULL OR c.relkind IN ('r', 'v') OR c.relname = 'token')
          AND d.classid = ANY ('{{pg_class,pg_proc,pg_namespace,pg_event_trigger}}'::regclass[])
          AND obj_description(d.objid, d.classid::regclass::text::name) IS NULL
        UNION ALL
        SELECT p.oid::regprocedure::text FROM pg_proc p
        WHERE p.pronamespace = 'embed_store'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
        UNION ALL
        SELECT c.oid::regclass::text FROM pg_class c
        WHERE (c.relnamespace = 'embed_store'::regnamespace AND c.relkind = 'r' OR c.oid = 'docs_embedding'::regclass)
          AND obj_description(c.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT 'schema embed_store' WHERE obj_description('embed_store'::regnamespace, 'pg_namespace') IS NULL
        """
    ).fetchall()
    assert rows == []
