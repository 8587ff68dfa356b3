"""A disk that stays full: each try may lose what was paid for, so they become rarer. What else goes wrong does not."""

import re

import pytest

from tests.fixtures.pipelines.documents import assert_as_source, drain_all
from tests.fixtures.waiting import Background, wait_until

pytestmark = pytest.mark.shared_database

AT_ONCE = "DO LANGUAGE plpython3u 'from evergreen.worker import retry; retry.ERROR_RETRY_S = 0.02'"
FAILS = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE 'no room' USING ERRCODE = '{state}'; END
$$;
CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON embed.document FOR EACH ROW EXECUTE FUNCTION no_room();
"""
RESTS = re.compile(r"is backed off for ([\d.]+) s: no room")


@pytest.fixture
def session(connect, db, docs, model):
    """Of a worker that rests a short time first."""
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)
    made = connect()
    made.execute("SELECT embed_setting('lease')")  # loads the library
    made.execute(AT_ONCE)
    return made


@pytest.mark.parametrize(("state", "pauses"), [("53100", [0.02, 0.04, 0.08, 0.16]), ("XX000", [0.02] * 4)])
def test_how_long_is_rested(db, session, state, pauses):
    heard = []
    session.add_notice_handler(lambda said: heard.extend(RESTS.findall(said.message_primary)))
    for number in range(2):  # free space in between restarts it
        db.execute(FAILS.format(state=state))
        db.execute("UPDATE docs SET body = %s WHERE id = 1", (f"edit {number}",))
        work = Background(session, "CALL embed_work(until_empty => true)")
        wait_until(lambda: len(heard) >= 4, what="four tries")
        db.execute("DROP FUNCTION no_room CASCADE")
        work.result()
        assert [float(seconds) for seconds in heard[:4]] == pauses
        heard.clear()
        assert_as_source(db)


def test_what_waits_says_so_even_if_nothing_can_be_kept(db, session):
    """The cache lies on the same disk: to write down why takes less room than what was paid for."""
    db.execute(FAILS.format(state="53100"))
    db.execute("CREATE TRIGGER no_room BEFORE INSERT ON embed.cache FOR EACH ROW EXECUTE FUNCTION no_room()")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 1")
    work = Background(session, "CALL embed_work(until_empty => true)")
    says = "SELECT coalesce(last_error, '') LIKE 'the disk is full%no room' FROM embed_status"
    wait_until(lambda: db.execute(says).fetchone() == (True,), what="the reason")
    assert db.execute("SELECT count(*) FROM embed.job WHERE token IS NOT NULL").fetchone() == (0,)
    db.execute("DROP FUNCTION no_room CASCADE")
    work.result()
    assert_as_source(db)
