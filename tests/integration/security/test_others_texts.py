"""Vectors of another owner's pipelines spare a call, but no figure tells that they were there.

The kind: a role that can put guesses into its own table learns from any figure that differs by what others have
which guesses are right. So each figure that a role other than embed_admin is shown is compared between two worlds that
differ in that alone: a first owner has the guessed texts, live, kept, under way or in the same drain, or other ones.
Time is not hidden: a text that needs no call is searchable sooner.
"""

import re

import pytest

from tests.fixtures.roles import people

pytestmark = pytest.mark.shared_database

GUESSES = 6
FIGURES = {
    "usage": "SELECT to_jsonb(u) - 'hour' FROM embed_usage u WHERE pipeline = 'guesses'",
    "status": "SELECT to_jsonb(s) - '{oldest_pending_age,backfill_eta,tables}'::text[] FROM embed_status s"
    " WHERE pipeline = 'guesses'",
    "estimate": "SELECT e::text FROM embed_estimate('guesses') e",
    "explain": "SELECT embed_explain('guesses', to_jsonb(id)) FROM second.guesses ORDER BY id",
    "generations": "SELECT to_jsonb(g) - '{generation,since,created_at}'::text[] FROM embed_generations g"
    " WHERE pipeline = 'guesses'",
}


def owners(db):
    """Two roles that may use models that cost money, each with a schema, and the administrator."""
    people(db)
    for role in ("first", "second"):
        db.execute(f"DO $$ BEGIN IF to_regrole('{role}') IS NULL THEN CREATE ROLE {role} LOGIN; END IF; END $$")
        db.execute(f"GRANT embed_user TO {role}; CREATE SCHEMA {role} AUTHORIZATION {role}")
        db.execute(f"GRANT USAGE ON SCHEMA {role} TO PUBLIC")


def told(session):
    """Everything that the figures say, without what differs from run to run: times, hashes, the texts themselves."""
    found = {name: [row[0] for row in session.execute(asked)] for name, asked in FIGURES.items()}
    text = re.sub(
        r"\d{4}-\d\d-\d\d[ T][\d:.+]+|fingerprint [0-9a-f]+|generation \d+|'lag_\w+': '[^']*'|\b(secret|absent)\b",
        "_",
        str(found),
    )
    return re.sub(r"'(live|bulk)?_?lag_p\d+': [^,}]*", "_", text)


def own(session, role, table, word, **options):
    """A table of a role with some texts of a word, and its pipeline."""
    given = ", ".join(f'"{name}": {value}' for name, value in options.items())
    session.execute(
        f"""
        CREATE TABLE {role}.{table} (id int PRIMARY KEY, body text);
        INSERT INTO {role}.{table} SELECT i, '{word} number ' || i FROM generate_series(1, {GUESSES}) i;
        SELECT embed_create('{table}', '{role}.{table}', columns => '{{body}}', model => 'loop',
                            options => '{{{given}}}')
        """
    )


def live(db, first):
    own(first, "first", "secrets", "secret")
    db.execute("SELECT embed_drain()")


def kept(db, first):
    live(db, first)
    first.execute("DELETE FROM first.secrets")
    db.execute("SELECT embed_drain()")


def dropped(db, first):
    kept(db, first)
    first.execute("SELECT embed_drop('secrets')")


def in_the_same_drain(_db, first):
    own(first, "first", "secrets", "secret")


def under_way(db, first):
    own(first, "first", "secrets", "secret")
    db.execute("SELECT count(*) FROM embed_claim('secrets', 100)")


@pytest.mark.few(2)
@pytest.mark.slow
@pytest.mark.parametrize("world", [live, kept, dropped, in_the_same_drain, under_way])
def test_no_figure_tells_whether_another_owner_has_a_text(db, connect, model, provider, world):
    owners(db)
    first, second = connect("first"), connect("second")
    world(db, first)
    stories = {}
    for word in ("secret", "absent"):
        own(second, "second", "guesses", word)
        before = told(second)
        provider.reset()
        db.execute("SELECT embed_drain(%s)", ("guesses" if world is not in_the_same_drain else None,))
        if world is not under_way:
            sent = sum(text.startswith(word) for text in provider.sent)
            assert sent == (0 if word == "secret" and world is not in_the_same_drain else GUESSES)
            stories[word] = before, told(second)
        else:
            stories[word] = before
        second.execute("SELECT embed_drop('guesses'); DROP TABLE second.guesses")
    assert stories["secret"] == stories["absent"]


@pytest.mark.slow
def test_only_an_administrator_is_told_what_others_saved(db, connect, model):
    owners(db)
    live(db, connect("first"))
    second = connect("second")
    own(second, "second", "guesses", "secret")
    db.execute("SELECT embed_drain()")
    asked = "SELECT calls, texts, saved_by_cache FROM embed_usage WHERE pipeline = 'guesses'"
    assert second.execute(asked).fetchone() == (1, GUESSES, 0)
    assert connect("the_admin").execute(asked).fetchone() == (0, 0, GUESSES)
    assert db.execute(asked).fetchone() == (0, 0, GUESSES)
    own(second, "second", "more", "secret")
    assert second.execute("SELECT texts, calls FROM embed_estimate('more')").fetchone() == (0, 0), "these are bob's own"
    db.execute("SELECT embed_drain()")
    assert second.execute("SELECT texts, saved_by_cache FROM embed_usage WHERE pipeline = 'more'").fetchone() == (
        0,
        GUESSES,
    )


@pytest.mark.slow
def test_a_budget_is_charged_alike(db, connect, model):
    """Else a limit that is set below the price of a guess would tell whether it was paid for."""
    owners(db)
    live(db, connect("first"))
    second = connect("second")
    states = {}
    for word in ("secret", "absent"):
        own(second, "second", "guesses", word, daily_tokens=25)
        db.execute("SELECT embed_drain()")
        second.execute("INSERT INTO second.guesses SELECT i, 'later ' || i FROM generate_series(11, 30) i")
        db.execute("SELECT embed_drain()")
        states[word] = second.execute("SELECT state FROM embed_status WHERE pipeline = 'guesses'").fetchone()
        second.execute("SELECT embed_drop('guesses'); DROP TABLE second.guesses")
    assert states["secret"] == states["absent"] == ("over budget",)


def test_who_only_uses_a_table_is_told_no_costs(db, connect, model):
    """A tenant's own rows, and what they cost, would tell which texts another tenant's rows in the same table have."""
    owners(db)
    first, second = connect("first"), connect("second")
    own(first, "first", "shared", "secret")
    first.execute("ALTER TABLE first.shared ENABLE ROW LEVEL SECURITY; GRANT SELECT, INSERT ON first.shared TO second")
    first.execute("CREATE POLICY own ON first.shared USING (id > 100)")
    db.execute("SELECT embed_drain()")
    asked = "SELECT calls, texts, tokens, cost, texts_saved FROM embed_status"
    second.execute("INSERT INTO first.shared VALUES (101, 'secret number 3')")
    db.execute("SELECT embed_drain()")
    assert second.execute(asked).fetchone() == (None,) * 5
    assert first.execute(asked).fetchone() == (1, GUESSES, first.execute(asked).fetchone()[2], None, 1)
