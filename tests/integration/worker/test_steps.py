"""A step of a worker is done or not: what it wrote before it failed is not committed with the next one."""

import pytest

pytestmark = pytest.mark.slow

STEPS = """
DO LANGUAGE plpython3u $$
from evergreen import db
from evergreen.core.errors import RetryableError, UserError
from evergreen.db.queries import Query
from evergreen.queue.scan_start import ScanStarts
from evergreen.worker.commit_policy import CommitEachStep

policy = CommitEachStep(ScanStarts())

def write(text):
    db.run(Query("write", ("text",), "INSERT INTO public.written VALUES ($1)"), text)

def fail():
    write("half")
    {failure}

try:
    policy.step("fails", fail)
except (UserError, RetryableError, db.DatabaseError):
    write("outside of a step")
policy.step("works", lambda: write("whole"))
$$"""
FAILURES = {
    "wrong input": 'raise UserError("no")',
    "no model": 'raise RetryableError("no")',
    "an error of the server": 'db.run(Query("fail", (), "SELECT 1 / 0"))',
}


@pytest.mark.parametrize("failure", FAILURES)
def test_what_a_failed_step_wrote_is_not_committed_with_the_next(db, connect, failure):
    db.execute("CREATE TABLE written (what text)")
    session = connect()
    session.execute("SELECT embed_drain()")
    session.execute(STEPS.format(failure=FAILURES[failure]))
    assert db.execute("SELECT what FROM written").fetchall() == [("outside of a step",), ("whole",)]


NOTES = """
CREATE TABLE noted (relation name, setting text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.noted VALUES (TG_RELNAME, current_setting('synchronous_commit'));
    RETURN NULL;
END $$"""


def test_a_claim_and_its_marks_are_committed_without_a_flush_but_not_its_rows(db, connect, docs, model):
    db.execute(NOTES)
    for table in ("job", "in_flight", "document"):
        db.execute(f"CREATE TRIGGER note AFTER INSERT ON embed.{table} FOR EACH ROW EXECUTE FUNCTION note()")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    session = connect()
    session.execute("SET synchronous_commit = local")
    session.execute("CALL embed_work(until_empty => true)")
    assert db.execute("SELECT DISTINCT relation::text, setting FROM noted ORDER BY 1").fetchall() == [
        ("document", "local"), ("in_flight", "off"), ("job", "off"),
    ]  # fmt: skip
    assert session.execute("SHOW synchronous_commit").fetchone() == ("local",)
