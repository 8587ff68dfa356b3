"""The source changes hands: its rows are read as its new owner, and embed_status says when that cannot be."""

import psycopg
import pytest

from tests.fixtures.pipelines.freshness import assert_fresh, drain, status, texts_in_view, verify
from tests.fixtures.roles import people

pytestmark = pytest.mark.shared_database


@pytest.fixture
def alices(db, model):
    """``app.docs`` of alice, who may use the schema; ``app.other`` of the superuser."""
    people(db)
    db.execute("CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO alice")
    for name in ("docs", "other"):
        db.execute(f"CREATE TABLE app.{name} (id int PRIMARY KEY, body text)")
        db.execute(f"INSERT INTO app.{name} SELECT i, '{name} ' || i FROM generate_series(1, 3) i")
        db.execute(f"SELECT embed_create('{name}', 'app.{name}', columns => '{{body}}', model => 'loop')")
    db.execute("ALTER TABLE app.docs OWNER TO alice")
    assert_fresh(db, "docs", 3)
    assert_fresh(db, "other", 3)
    return db


def edit(db, text):
    """A change of both tables, and another look at all that waits."""
    db.execute("UPDATE app.docs SET body = %s WHERE id = 1", (text,))
    db.execute("UPDATE app.other SET body = %s WHERE id = 1", (text,))
    look_again(db)


def look_again(db):
    db.execute("UPDATE embed.job SET ready_at = clock_timestamp() WHERE token IS NULL")
    drain(db)


UNREADABLE = {
    "an owner without rights on the schema": (
        "ALTER TABLE app.docs OWNER TO bob",
        ['"bob"', "permission denied for schema app", "GRANT"],
        "GRANT USAGE ON SCHEMA app TO bob",
    ),
    "an owner who gave up rights": (
        "REVOKE SELECT ON app.docs FROM alice",
        ['"alice"', "permission denied for table docs", "GRANT"],
        "GRANT SELECT ON app.docs TO alice",
    ),
    "forced row-level security": (
        "ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        ['"alice"', "row-level security", "ALTER TABLE NO FORCE ROW LEVEL SECURITY"],
        "ALTER TABLE app.docs NO FORCE ROW LEVEL SECURITY",
    ),
}


@pytest.mark.parametrize(("ddl", "words", "mend"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_who_cannot_read_it_is_named_and_so_is_what_mends_it(db, alices, provider, ddl, words, mend):
    provider.reset()
    db.execute(ddl)
    edit(db, "edited")
    found = status(db, "docs")
    assert (found.state, found.fresh, found.pending, found.failed) == ("active", 2, 1, 0)
    assert [word for word in words if word not in (found.last_error or "")] == []
    assert_fresh(db, "other", 3)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        verify(db, "docs")
    db.execute(mend)
    look_again(db)
    assert_fresh(db, "docs", 3)
    assert provider.sent == {"edited": 1}


def test_row_level_security_that_is_not_forced_is_not_the_owners(db, alices):
    db.execute("ALTER TABLE app.docs ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON app.docs USING (id > 2)")
    edit(db, "edited")
    assert_fresh(db, "docs", 3)
    db.execute("GRANT USAGE ON SCHEMA app TO bob; GRANT SELECT ON app.docs TO bob")
    db.execute("SET ROLE bob")
    assert texts_in_view(db, "app.docs_embedding") == ["docs 3"]
    db.execute("RESET ROLE")


@pytest.mark.fresh_database
def test_reassign_owned_is_followed(db, connect, alices, provider):
    provider.reset()
    session = connect()
    session.execute("UPDATE app.docs SET id = id")
    db.execute("GRANT USAGE ON SCHEMA app TO bob; REASSIGN OWNED BY alice TO bob")
    session.execute("UPDATE app.docs SET body = 'by bob' WHERE id = 2")
    edit(db, "edited")
    assert_fresh(db, "docs", 3)
    assert provider.sent == {"by bob": 1, "edited": 1}
    readers = db.execute("SELECT proowner::regrole::text FROM pg_proc WHERE proname IN ('reader_1', 'scan_1', 'key_1')")
    assert set(readers.fetchall()) == {("bob",)}


def test_drop_owned_takes_the_table_and_leaves_the_others(db, alices):
    db.execute("DROP OWNED BY alice")
    edit_other = "UPDATE app.other SET body = 'edited' WHERE id = 1"
    db.execute(edit_other)
    drain(db)
    found = status(db, "docs")
    assert (found.state, "embed_drop()" in found.last_error) == ("broken", True)
    assert_fresh(db, "other", 3)
    db.execute("SELECT embed_drop('docs')")
    db.execute("DROP TABLE app.other; DROP SCHEMA app")


def test_drop_owned_of_one_who_owned_it_before_takes_nothing(db, alices):
    """The functions that read the table went with it."""
    db.execute("GRANT USAGE ON SCHEMA app TO bob; ALTER TABLE app.docs OWNER TO bob; DROP OWNED BY alice")
    edit(db, "edited")
    assert_fresh(db, "docs", 3)
