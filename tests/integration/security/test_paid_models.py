"""A model that may cost money: who may have it called, by whatever call, and that every question to it is accounted.

The rule: giving a pipeline such a model needs embed_user (but for a function of one's own). The pipeline then has the
model, under another owner too, and its readers may ask. A model whose ``price`` is 0 costs nothing. What a question
cost is in embed_usage where it can be written; where it cannot, the question is answered all the same.
"""

import pytest

from tests.fixtures.error_checks import refused
from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.roles import people

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

TABLE = """
CREATE TABLE {0}.docs (id int PRIMARY KEY, body text);
INSERT INTO {0}.docs SELECT i, 'body ' || i FROM generate_series(1, 3) i
"""
CREATE = "SELECT embed_create('docs', '{0}.docs', columns => '{{body}}', model => '{1}')"
USAGE = "SELECT pipeline, calls::int, texts::int, tokens::int, cost, questions::int FROM embed_usage"


@pytest.fixture
def paid(db, connect, provider):
    """A model with a price of 2 a token, two roles with a table each, and bob, who reads both."""
    people(db)
    provider.register(db, price=2_000_000)
    for role in ("alice", "the_payer"):
        connect(role).execute(TABLE.format(role))
        db.execute(f"GRANT SELECT ON {role}.docs TO bob")
    return provider


def asked(provider):
    """What the model was sent since it was last asked for."""
    texts = [text for request in provider.requests for text in request]
    provider.reset()
    return texts


def test_a_pipeline_gets_a_paid_model_from_somebody_who_may_spend(db, connect, paid):
    alice = connect("alice")
    error = refused(alice, CREATE.format("alice", "loop"), count_as=db)
    assert error.sqlstate == "42501"
    assert '"loop"' in str(error)
    assert error.diag.message_hint.startswith("GRANT embed_user TO alice;")
    db.execute("SELECT embed_setting('default_model', 'loop')")
    assert (
        refused(alice, "SELECT embed_create('docs', 'alice.docs', columns => '{body}')", count_as=db).sqlstate
        == "42501"
    )
    alice.execute(CREATE.format("alice", "wordllama-64"))
    assert refused(alice, "SELECT embed_build('docs', model => 'loop')", count_as=db).sqlstate == "42501"
    assert refused(alice, "SELECT embed('text')", count_as=db).sqlstate == "42501"
    drain_all(db)
    assert asked(paid) == []


def test_what_was_granted_to_a_pipeline_stays_its_own(db, connect, paid):
    """Its owner, who may not spend by himself, goes on with it: another chunker, comparison, promotion, rollback."""
    db.execute(CREATE.format("alice", "loop"))
    drain_all(db)
    asked(paid)
    alice = connect("alice")
    again = CREATE.format("alice", "loop").replace(")", ", if_not_exists => true)")
    assert alice.execute(again).fetchone() is not None
    alice.execute("SELECT embed_build('docs', chunker => embed_chunk_text())")
    drain_all(db)
    alice.execute("SELECT * FROM embed_compare('docs', '{one}')")
    alice.execute("SELECT embed_promote('docs')")
    alice.execute("SELECT embed_build('docs', model => 'wordllama-64')")
    drain_all(db)
    alice.execute("SELECT embed_promote('docs')")
    alice.execute("SELECT embed_build('docs', model => 'loop')")  # a previous generation has it
    assert asked(paid) == ["one"]


def test_whoever_reads_the_table_may_ask_and_that_is_accounted(db, connect, paid):
    connect("the_payer").execute(CREATE.format("the_payer", "loop"))
    drain_all(db)
    asked(paid)
    before = db.execute(USAGE).fetchall()
    bob = connect("bob")
    bob.execute("SELECT embed_query('docs', 'two words')")
    bob.execute("SELECT * FROM embed_search('docs', 'now three words')")
    bob.execute("SELECT * FROM embed_search('docs', 'words that are four', mode => 'hybrid')")
    bob.execute("SELECT * FROM embed_search_rows(NULL::the_payer.docs, 'one')")
    bob.execute("SELECT * FROM embed_search('docs', 'keyword', mode => 'keyword')")
    bob.execute("SELECT * FROM embed_search_rows(NULL::the_payer.docs, 'one')")  # remembered
    assert asked(paid) == ["two words", "now three words", "words that are four", "one"]
    ((pipeline, calls, texts, tokens, cost, questions),) = before
    assert questions == 0
    after = (pipeline, calls + 4, texts + 4, tokens + 10, cost + 20, 4)
    assert db.execute(USAGE).fetchall() == [after]
    assert db.execute("SELECT calls, texts, tokens, cost FROM embed_status").fetchone() == after[1:5]
    assert connect("the_payer").execute(USAGE).fetchall() == [after]
    assert bob.execute(USAGE).fetchall() == []
    db.execute("UPDATE embed.usage SET at = at - interval '2 hours'")
    db.execute("CALL embed_work(until_empty => true)")
    assert db.execute(USAGE).fetchall() == [after]


def test_what_embed_cost_is_shown_to_admins(db, connect, paid):
    payer = connect("the_payer")
    payer.execute("SELECT embed('two words', 'loop')")
    payer.execute("SELECT embed('it costs nothing', 'wordllama-64')")
    expected = [(None, 1, 1, 2, 4.0, 1)]
    assert connect("the_admin").execute(USAGE).fetchall() == expected
    assert payer.execute(USAGE).fetchall() == []
    db.execute("UPDATE embed.usage SET at = at - interval '2 hours'")
    db.execute("CALL embed_work(until_empty => true)")  # which folds
    assert db.execute(USAGE).fetchall() == expected
    assert connect("the_admin").execute("SELECT embed('by an admin', 'loop') IS NOT NULL").fetchone() == (True,)


def test_comparing_is_accounted_to_the_pipeline(db, connect, paid):
    connect("the_payer").execute(CREATE.format("the_payer", "loop"))
    drain_all(db)
    connect("the_payer").execute("SELECT embed_build('docs', chunker => embed_chunk_text())")
    drain_all(db)
    asked(paid)
    connect("the_payer").execute("SELECT * FROM embed_compare('docs', '{one,two words}')")
    assert asked(paid) == ["one", "two words"]
    assert db.execute("SELECT sum(questions) FROM embed_usage").fetchone() == (2,)


def test_where_nothing_can_be_written_the_question_is_answered(db, connect, paid):
    connect("the_payer").execute(CREATE.format("the_payer", "loop"))
    drain_all(db)
    before = db.execute(USAGE).fetchall()
    session = connect("the_payer")
    session.execute("SET default_transaction_read_only = on")
    for number, call in enumerate(
        (
            "SELECT embed('text {}', 'loop') IS NOT NULL",
            "SELECT embed_query('docs', 'text {}') IS NOT NULL",
            "SELECT count(*) = 3 FROM embed_search('docs', 'text {}')",
            "SELECT count(*) = 3 FROM embed_search_rows(NULL::the_payer.docs, 'text {}')",
        )
    ):
        assert session.execute(call.format(number)).fetchone() == (True,)
    assert db.execute(USAGE).fetchall() == before
    with db.transaction():
        db.execute("LOCK TABLE embed.usage IN EXCLUSIVE MODE")  # as a VACUUM FULL may for long
        asker = connect("the_payer")
        assert asker.execute("SELECT embed_query('docs', 'locked') IS NOT NULL").fetchone() == (True,)


def test_a_price_of_zero_costs_nothing(db, connect, paid):
    db.execute("SELECT embed_model_add('gift', 'openai', 8, endpoint => 'loop', options => '{\"price\": 0}')")
    alice = connect("alice")
    alice.execute(CREATE.format("alice", "gift"))
    assert alice.execute("SELECT embed('text', 'gift') IS NOT NULL").fetchone() == (True,)
    drain_all(db)
    alice.execute("SELECT embed_query('docs', 'question')")
    assert db.execute("SELECT sum(cost), sum(questions) FROM embed_usage").fetchone() == (0, 2)


def test_a_function_is_given_to_pipelines_by_its_owner_or_who_may_spend(db, connect, paid):
    db.execute("CREATE FUNCTION alice.f(text[]) RETURNS vector[] LANGUAGE sql AS $$ SELECT ARRAY['[1]'::vector] $$")
    db.execute("ALTER FUNCTION alice.f(text[]) OWNER TO alice")
    db.execute("SELECT embed_model_add('hers', 'function', 1, 'alice.f')")
    connect("bob").execute(TABLE.format("bob"))
    assert refused(connect("bob"), CREATE.format("bob", "hers"), count_as=db).sqlstate == "42501"
    assert connect("alice").execute(CREATE.format("alice", "hers")).fetchone() is not None


@pytest.mark.few(2)
@pytest.mark.own_sessions
@pytest.mark.parametrize(
    "call",
    [
        "SELECT embed('two words', 'loop')",
        "SELECT embed_query('docs', 'two words')",
        "SELECT * FROM embed_search('docs', 'two words')",
        "SELECT * FROM embed_search('docs', 'two words', mode => 'hybrid')",
        "SELECT * FROM embed_search_rows(NULL::the_payer.docs, 'two words')",
        "SELECT * FROM embed_compare('docs', '{two words}')",
    ],
)
def test_what_a_role_asked_is_remembered_for_that_role_only(db, connect, paid, call):
    """In one session, as behind a pool: each role's question is sent and accounted, and tells nothing of another's."""
    connect("the_payer").execute(CREATE.format("the_payer", "loop"))
    drain_all(db)
    if "compare" in call:
        connect("the_payer").execute("SELECT embed_build('docs', chunker => embed_chunk_text())")
        drain_all(db)
    asked(paid)
    session = connect()
    for role in ("the_payer", "postgres", "the_payer"):
        session.execute(f"SET ROLE {role}")
        session.execute(call)
        session.execute(call)
    assert asked(paid) == ["two words"] * 2
    assert db.execute("SELECT sum(questions) FROM embed_usage").fetchone() == (2,)
