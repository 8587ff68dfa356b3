"""A restored pipeline never takes another role's table or view, however it got the recorded name.

The kind: what is found by name goes to the role that was there first. A pipeline belongs to the owner of its table, and
with it every stored text: `embed_drop(…, keep_embeddings => true)` would hand them over.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import psycopg.conninfo
import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.dumps import Connection, create_empty, dump, restore, sessions_in, verified
from tests.fixtures.pipelines.freshness import assert_fresh, status
from tests.fixtures.roles import hash_model, people

NO_TABLE = ("--exclude-table=docs", "--exclude-table=docs_embedding")
NO_OWNERS = ("--no-owner", "--no-privileges")
DOCS = "CREATE TABLE public.docs (id int PRIMARY KEY, body text)"
PLANTS = {
    "table": f"{DOCS}; INSERT INTO docs VALUES (1, 'x'), (2, 'y')",
    "partition": "CREATE TABLE bob.whole (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);"
    " CREATE TABLE public.docs PARTITION OF bob.whole FOR VALUES FROM (0) TO (9)",
    "view": "CREATE VIEW public.docs AS SELECT 1 AS id, 'x' AS body",
    "materialized view": "CREATE MATERIALIZED VIEW public.docs AS SELECT 1 AS id, 'x' AS body",
    "sequence": "CREATE SEQUENCE public.docs",
    "type": "CREATE TYPE public.docs AS (id int, body text)",
}
SOURCE = "SELECT source, source_name, source_owner FROM embed.pipeline"


@pytest.fixture
def alices(db: Connection) -> Connection:
    """Alice's table and pipeline in a schema where bob may create tables too."""
    people(db)
    hash_model(db)
    db.execute("GRANT CREATE ON SCHEMA public TO alice, bob")
    db.execute(f"SET ROLE alice; {DOCS}; INSERT INTO docs VALUES (1, 'secret one'), (2, 'secret two')")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    db.execute("RESET ROLE")
    assert_fresh(db, "docs", 2)
    return db


@pytest.fixture
def steps(cluster: Cluster, dsn: str, tmp_path: Path) -> Iterator[Callable[..., Connection]]:
    """Restore a dump step by step: each call returns a session of the given role."""
    made: dict[tuple[str, ...], Path] = {}

    def step(*options: str, without: tuple[str, ...] = (), role: str = "postgres") -> Connection:
        if not made:
            create_empty(cluster, "restored")
        if without not in made:
            name = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
            made[without] = dump(cluster, name, tmp_path, "custom", *without)
        restore(cluster, "restored", made[without], "custom", *options)
        return open_one(options=f"-c role={role}")

    with sessions_in(cluster, "restored") as open_one:
        yield step


def work(db: Connection) -> None:
    db.execute("CALL embed_work(until_empty => true)")


def assert_out_of_reach(db: Connection, bob: Connection) -> None:
    assert bob.execute("SELECT count(*) FROM embed_pipelines").fetchone() == (0,)
    for call in (
        "SELECT embed_drop('docs', keep_embeddings => true)",
        "SELECT embed_explain('docs', '[1]')",
        "SELECT embed_search('docs', 'secret')",
        "SELECT embed_build('docs')",
        "SELECT embed_pause('docs')",
        "SELECT embed_get_def('docs')",
    ):
        with pytest.raises(psycopg.errors.UndefinedObject):
            bob.execute(call)
    assert db.execute("SELECT source FROM embed.pipeline").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'docs'::regclass").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM embed_store.g1").fetchone() == (2,)


@pytest.mark.few(2)
@pytest.mark.parametrize("plant", PLANTS)
def test_what_stands_in_the_tables_place_before_the_catalog_is_restored(alices, steps, plant):
    bob = steps("--section=pre-data", without=NO_TABLE, role="bob")
    bob.execute(PLANTS[plant])
    db = steps("--section=data", without=NO_TABLE)
    for _ in range(2):
        assert_out_of_reach(db, bob)
        work(db)
    found = status(db, "docs")
    assert found.state == "broken"
    is_table = plant in {"table", "partition"}
    told = "belongs to another role, bob instead of alice" if is_table else "is not in this database"
    assert f"its table public.docs {told}" in (found.last_error or "")


def test_the_right_table_takes_its_place(alices, steps):
    bob = steps(without=NO_TABLE, role="bob")
    bob.execute(PLANTS["table"])
    db = steps("--list")
    work(db)
    assert_out_of_reach(db, bob)
    db.execute("ALTER TABLE docs RENAME TO planted")
    db.execute(f"SET ROLE alice; {DOCS}; INSERT INTO docs VALUES (1, 'secret one'); RESET ROLE")
    work(db)
    assert verified(db, "docs") == {"fresh": 1}
    assert db.execute("SELECT pipeline, owner FROM embed_pipelines").fetchall() == [("docs", "alice")]


@pytest.mark.parametrize("is_known", [True, False])
def test_what_the_message_says_hands_the_pipeline_over(alices, steps, is_known):
    db = steps(without=NO_TABLE)
    if not is_known:  # a role of the other server
        db.execute("UPDATE embed.pipeline SET source_owner = 'odd Role'")
    db.execute("SET ROLE bob")
    db.execute(PLANTS["table"])
    db.execute("RESET ROLE")
    work(db)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
        db.execute("SELECT embed_verify('docs')")
    role, create = ("alice", "") if is_known else ('"odd Role"', 'CREATE ROLE "odd Role"; ')
    grant = f"{create}GRANT {role} TO bob"
    assert grant in (caught.value.diag.message_hint or "")
    try:
        db.execute(grant)
        work(db)
        db.execute(f"REVOKE {role} FROM bob")
    finally:
        if not is_known:
            db.execute('DROP ROLE IF EXISTS "odd Role"')
    assert verified(db, "docs") == {"fresh": 2}
    db.execute("SELECT embed.record_names()")
    assert db.execute("SELECT source_owner FROM embed.pipeline").fetchone() == ("bob",)


def test_a_restore_without_owners_gives_the_pipeline_to_the_restoring_role(alices, steps):
    db = steps(*NO_OWNERS)
    work(db)
    assert verified(db, "docs") == {"fresh": 2}
    assert db.execute("SELECT owner FROM embed_pipelines").fetchone() == ("postgres",)


def test_a_name_that_another_role_takes_after_a_drop_is_not_followed(alices, steps):
    """The dump then has bob's table under the recorded name."""
    alices.execute("DROP TABLE docs CASCADE; SET ROLE bob")
    alices.execute(PLANTS["table"])
    alices.execute("RESET ROLE")
    db = steps()
    work(db)
    assert_out_of_reach(db, steps("--list", role="bob"))


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_that_stands_in_the_place_of_ours_is_left_alone(alices, steps, kind):
    bob = steps("--section=pre-data", without=("--exclude-table=docs_embedding",), role="bob")
    bob.execute(f"CREATE {kind} public.docs_embedding AS SELECT 1 AS mine")
    db = steps("--section=data", "--section=post-data", without=("--exclude-table=docs_embedding",))
    work(db)
    assert verified(db, "docs") == {"fresh": 2}
    with pytest.raises(psycopg.errors.UndefinedTable):
        db.execute("SELECT embed_search('docs', 'x')")
    db.execute("SELECT embed_drop('docs')")
    assert bob.execute("SELECT mine FROM docs_embedding").fetchall() == [(1,)]


CHANGES = {
    "owner": ("ALTER TABLE docs OWNER TO bob", "public.docs", "bob"),
    "all of the owner's": ("REASSIGN OWNED BY alice TO bob", "public.docs", "bob"),
    "name": ("ALTER TABLE docs RENAME TO papers", "public.papers", "alice"),
    "name, as an index": ("ALTER INDEX docs RENAME TO papers", "public.papers", "alice"),
    "both": ("ALTER TABLE docs RENAME TO papers; ALTER TABLE papers OWNER TO bob", "public.papers", "bob"),
}


@pytest.mark.few(2)
@pytest.mark.parametrize("change", CHANGES)
def test_a_table_that_changes_before_the_first_worker_is_followed(alices, steps, change):
    ddl, name, owner = CHANGES[change]
    db = steps()
    db.execute("GRANT CREATE ON SCHEMA public TO bob")
    db.execute(ddl)
    work(db)
    assert verified(db, "docs") == {"fresh": 2}
    db.execute("SELECT embed.record_names()")
    assert db.execute("SELECT source_name, source_owner FROM embed.pipeline").fetchone() == (name, owner)


def test_a_dump_after_a_rename_as_of_an_index(alices, steps):
    alices.execute("ALTER INDEX docs RENAME TO papers; SET ROLE bob")
    alices.execute(PLANTS["table"])
    alices.execute("RESET ROLE")
    db = steps()
    work(db)
    assert verified(db, "docs") == {"fresh": 2}
    assert db.execute("SELECT source_name FROM embed.pipeline").fetchone() == ("public.papers",)


def test_a_dump_has_the_present_owner(alices, steps):
    alices.execute("GRANT CREATE ON SCHEMA public TO bob; ALTER TABLE docs OWNER TO bob")
    assert alices.execute("SELECT source_owner FROM embed.pipeline").fetchone() == ("bob",)
    db = steps()
    work(db)
    assert verified(db, "docs") == {"fresh": 2}
    assert db.execute("SELECT owner FROM embed_pipelines").fetchone() == ("bob",)
