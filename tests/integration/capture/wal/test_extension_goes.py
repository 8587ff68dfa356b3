"""The replication slot goes with the extension, however that goes, and with nothing else.

The kind: before a command it is not known what it will drop, whatever its text says, and afterwards nothing of ours is
there to look. What looks has to outlive the extension, to the end of the transaction, and to go by what is gone.
"""

import psycopg
import pytest

from tests.fixtures.roles import people
from tests.fixtures.wal import slots, some_of, work

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

SAY = "/* drop extension evergreen cascade */"
GOES = {
    "drop": "DROP EXTENSION evergreen CASCADE",
    "oddly written": 'DrOp/**/eXtension if exists\n"evergreen" -- all of it\n cascade',
    "with vector": "DROP EXTENSION vector CASCADE",
    "with its language": "DROP EXTENSION plpython3u CASCADE",
    "with its schema": "ALTER TABLE docs SET SCHEMA kept; DROP SCHEMA public CASCADE",
    "in a block": "DO $$ BEGIN EXECUTE 'drop ext' || 'ension evergreen casc' || 'ade'; END $$",
    "in a function": "SELECT kept.away()",
    "in a transaction": "BEGIN; SAVEPOINT s; DROP EXTENSION evergreen CASCADE; RELEASE s; COMMIT",
}
STAYS = {
    "another extension": f"DROP EXTENSION IF EXISTS nothing CASCADE {SAY}",
    "another schema": f"CREATE SCHEMA other; DROP SCHEMA other CASCADE {SAY}",
    "rolled back": "BEGIN; DROP EXTENSION evergreen CASCADE; ROLLBACK",
    "rolled back to a savepoint": "BEGIN; SAVEPOINT s; DROP EXTENSION evergreen CASCADE; ROLLBACK TO s; COMMIT",
    "caught in a block": """DO $$ BEGIN DROP EXTENSION evergreen CASCADE; RAISE 'no'; EXCEPTION WHEN raise_exception
                            THEN NULL; END $$""",
    "renamed": f"ALTER EXTENSION evergreen SET SCHEMA public {SAY}",
}
COUNTS = "SELECT (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_publication)"


@pytest.fixture
def session(connect, db, pipeline):
    """Of a superuser, with a schema that stays."""
    db.execute("CREATE SCHEMA kept")
    db.execute("""CREATE FUNCTION kept.away() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
                  AS 'BEGIN DROP EXTENSION evergreen CASCADE; END'""")
    made = connect()
    made.execute("SET client_min_messages = error")
    return made


def run(session, statements):
    for statement in statements.split("; ") if not statements.startswith(("DO", "CREATE FUNCTION")) else [statements]:
        session.execute(statement)


@pytest.mark.few(1)
@pytest.mark.parametrize("way", some_of(GOES, "drop", "with its schema", "in a block"))
def test_the_slot_goes_with_the_extension(session, db, way):
    run(session, GOES[way])
    assert db.execute(COUNTS).fetchone() == (0, 0)
    assert db.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'evergreen_end%'").fetchone() == (0,)


@pytest.mark.parametrize("way", some_of(STAYS, "another extension", "rolled back to a savepoint"))
def test_the_slot_stays_with_the_extension(session, db, way):
    before = slots(db)
    assert len(before) == 1
    run(session, STAYS[way])
    assert slots(db) == before
    db.execute("UPDATE docs SET body = 'after' WHERE id = 1")
    work(db)
    assert db.execute("SELECT chunk ~ 'after' FROM docs_embedding WHERE id = 1").fetchone() == (True,)


def test_a_stranger_moves_nothing(connect, db, pipeline, provider):
    people(db)
    before = slots(db)
    stranger = connect("bob")
    stranger.execute(f"DROP EXTENSION IF EXISTS nothing CASCADE {SAY}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        stranger.execute("DROP EXTENSION evergreen CASCADE")
    assert slots(db) == before
    work(db)
    assert not provider.sent


def test_where_backslashes_are_ordinary_escapes(connect, db, pipeline):
    db.execute(f"ALTER DATABASE {db.info.dbname} SET standard_conforming_strings = off")
    connect().execute("DROP EXTENSION evergreen CASCADE")
    assert db.execute(COUNTS).fetchone() == (0, 0)
