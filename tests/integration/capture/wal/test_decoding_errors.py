"""An error of the server in decoding the WAL: no other pipeline is held up, and nothing is missed."""

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all, drain_once
from tests.fixtures.wal import capture_of, slots, work, work_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

# The next reading of this session asks for what pgoutput refuses once the slot is taken: so fails a WAL it cannot read.
FAIL_ONCE = """
DO LANGUAGE plpython3u $python$
from dataclasses import replace
from evergreen import db
from evergreen.capture.wal import reader
peek = reader._peek
def refused(slot, end, limit):
    reader._peek = peek
    query = reader.SQL.peek
    return db.stream(replace(query, text=query.text.replace("'1'", "'99'")), slot, end, limit)
reader._peek = refused
$python$
"""


@pytest.fixture
def failing(connect):
    """A session that fails once, and what it was warned of."""
    session = connect()
    session.execute("SELECT embed_setting('lease')")  # loads the library
    session.execute(FAIL_ONCE)
    warned = []
    session.add_notice_handler(lambda notice: warned.append(notice.message_primary))
    return session, warned


# And what it does about that is too late, as with another session that has taken the slot up meanwhile.
IN_USE = """
DO LANGUAGE plpython3u $python$
from evergreen.capture.wal import handover
drop_slot = handover.drop_slot
def in_use(reason):
    handover.drop_slot = drop_slot
    import plpy
    plpy.error("replication slot is active", sqlstate="55006")
handover.drop_slot = in_use
$python$
"""


@pytest.fixture
def notes(db, pipeline):
    """Another pipeline, which triggers capture."""
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    db.execute("SELECT embed_create('notes', 'notes', columns => '{title,body}', model => 'loop')")


def test_a_drain_goes_on_with_others_and_lets_the_slot_go(db, pipeline, notes, failing, provider):
    session, warned = failing
    before = slots(db)
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1; INSERT INTO notes VALUES (1, 'a', 'note')")
    assert drain_once(session) == 1
    assert_as_source(db, "notes")
    assert any("proto_version=99" in one for one in warned)
    work(db)  # the other session is still there
    assert_as_source(db)
    assert slots(db) == before
    assert provider.sent == {"title 1\n\nedited": 1, "a\n\nnote": 1}


def test_a_worker_takes_another_slot_and_has_all_rows_checked(db, pipeline, notes, failing, provider):
    session, warned = failing
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1; INSERT INTO notes VALUES (1, 'a', 'note')")
    work(session)
    assert any("proto_version=99" in one for one in warned)
    db.execute("UPDATE docs SET body = 'edited meanwhile' WHERE id = 2")
    work_until(db, "docs", "cdc")
    db.execute("UPDATE docs SET body = 'edited after' WHERE id = 3")
    work(db)
    drain_all(db)
    assert capture_of(db) == "cdc"
    assert_as_source(db)
    assert_as_source(db, "notes")
    assert set(provider.sent.values()) == {1}
    assert len(provider.sent) == 4


def test_two_that_come_upon_it_at_once_do_not_fail(db, pipeline, notes, failing):
    """The one that is late leaves it to the other."""
    session, warned = failing
    session.execute(IN_USE)
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1; INSERT INTO notes VALUES (1, 'a', 'note')")
    work(session)
    assert any("proto_version=99" in one for one in warned)
    assert_as_source(db, "notes")
    work(db)
    assert_as_source(db)
