"""Default privileges and grants by habit, in either direction, change nothing of who may what.

The kind: ALTER DEFAULT PRIVILEGES decides on the rights of everything that is made later, by the install script and by
each call after it: functions, tables, sequences, schemas, views. What is granted is written down in privileges.txt.
"""

import psycopg
import pytest

from tests.fixtures.pipelines.freshness import drain
from tests.fixtures.roles import people
from tests.integration.security.test_privileges_snapshot import LIST, look, make

pytestmark = pytest.mark.shared_database

#: For the role that installs, and whose rights everything is made with.
DEFAULTS = {
    "closed": "REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; REVOKE USAGE ON TYPES FROM PUBLIC",
    "open": (
        "GRANT EXECUTE ON FUNCTIONS TO bob; GRANT USAGE, CREATE ON SCHEMAS TO bob; GRANT ALL ON TABLES TO bob;"
        " GRANT ALL ON SEQUENCES TO bob"
    ),
    "open to all": (
        "GRANT ALL ON TABLES TO PUBLIC; GRANT ALL ON SEQUENCES TO PUBLIC; GRANT ALL ON SCHEMAS TO PUBLIC;"
        " GRANT EXECUTE ON FUNCTIONS TO embed_user WITH GRANT OPTION"
    ),
}


def alter(db, defaults):
    for one in DEFAULTS[defaults].split(";"):
        db.execute(f"ALTER DEFAULT PRIVILEGES {one}")


@pytest.fixture
def bare(cluster, template):
    """A superuser's session in a database without the extension, in which people have their schemas."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE defaults TEMPLATE template0")
        with psycopg.connect(cluster.dsn("defaults"), autocommit=True) as db:
            db.execute("DO $$ BEGIN IF to_regrole('embed_admin') IS NULL THEN CREATE ROLE embed_admin; END IF; END $$")
            people(db)
            yield db
        admin.execute("DROP DATABASE defaults WITH (FORCE)")


def differences(db):
    """What the list says and what is, without what is not ours."""
    with psycopg.connect(db.info.dsn, host=db.info.host, autocommit=True, options="-c role=alice") as alice:
        make(db, alice)
    expected = LIST.read_text(encoding="utf-8").splitlines()
    changed = {*look(db)} ^ {*expected}
    return sorted(line for line in changed if not line.startswith(("default privileges", "types in", "role ")))


@pytest.mark.few(2)
@pytest.mark.slow
@pytest.mark.parametrize("defaults", DEFAULTS)
@pytest.mark.parametrize("when", ["before the extension", "before the pipeline"])
def test_who_may_what_is_as_it_is_written_down(bare, defaults, when):
    if when == "before the extension":
        bare.execute("CREATE EXTENSION vector; CREATE EXTENSION plpython3u")
        alter(bare, defaults)
    bare.execute("CREATE EXTENSION evergreen CASCADE")
    if when == "before the pipeline":
        alter(bare, defaults)
    assert differences(bare) == []


def test_defaults_of_a_schema_count_as_little(bare):
    bare.execute("CREATE EXTENSION evergreen CASCADE; CREATE SCHEMA embed_store")
    for schema in ("public", "embed", "embed_store", "alice"):
        for what in ("FUNCTIONS", "TABLES", "SEQUENCES"):
            bare.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT ALL ON {what} TO bob, embed_user")
    assert differences(bare) == []


@pytest.fixture
def hidden(bare):
    """Row security hides row 15 from bob; the defaults let him run what is made."""
    bare.execute("CREATE EXTENSION evergreen CASCADE")
    alter(bare, "open")
    bare.execute(
        """
        CREATE TABLE alice.docs (id int PRIMARY KEY, body text);
        ALTER TABLE alice.docs OWNER TO alice;
        INSERT INTO alice.docs SELECT i, 'body ' || i FROM generate_series(1, 20) i;
        ALTER TABLE alice.docs ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON alice.docs USING (id <> 15);
        GRANT SELECT ON alice.docs TO bob;
        SELECT embed_model_add('h8', 'hash', 8);
        SELECT embed_create('docs', 'alice.docs', '{body}', model => 'h8');
        """
    )
    drain(bare)
    return bare


def test_a_role_that_defaults_open_everything_to_reads_no_hidden_row(hidden):
    statements = hidden.execute(
        """SELECT format('SELECT %s(%s)', p.oid::regproc, (SELECT string_agg(
                      CASE format_type(t, NULL) WHEN 'jsonb' THEN '''[[15]]''' WHEN 'integer' THEN '100' END, ', ')
                      FROM unnest(p.proargtypes) t))
           FROM pg_proc p WHERE p.pronamespace = 'embed_store'::regnamespace AND p.prorettype <> 'trigger'::regtype
           UNION ALL SELECT format('SELECT chunk FROM embed_store.%I', c.relname) FROM pg_class c
           WHERE c.relnamespace = 'embed_store'::regnamespace AND c.relkind IN ('r', 'p')"""
    ).fetchall()
    assert len(statements) == 7
    with psycopg.connect(hidden.info.dsn, host=hidden.info.host, autocommit=True, options="-c role=bob") as bob:
        for (statement,) in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                bob.execute(statement)
        assert len(bob.execute("SELECT FROM alice.docs_embedding").fetchall()) == 19


def test_a_grant_that_a_restore_brought_goes_when_functions_are_made_again(hidden):
    """Default privileges of the database restored into open functions before pg_restore sets their own privileges."""
    hidden.execute(
        "GRANT USAGE ON SCHEMA embed_store TO bob; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA embed_store TO bob"
    )
    hidden.execute("ALTER TABLE alice.docs ADD extra int")
    may = "SELECT has_function_privilege('bob', 'embed_store.reader_1(jsonb)', 'EXECUTE')"
    assert hidden.execute(may).fetchone() == (False,)
