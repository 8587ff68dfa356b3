"""What embed_claim, embed_submit and embed_release refuse: a clear error, and nothing half-done."""

from itertools import product

import pytest
from psycopg import errors

from tests.fixtures.error_checks import agree, refused
from tests.fixtures.external_compute import claim, kept, submit
from tests.fixtures.pipelines.documents import drain_all, verified
from tests.fixtures.providers.loopback import vector
from tests.fixtures.roles import people

pytestmark = pytest.mark.shared_database

SUBMIT = "SELECT embed_submit('docs', %s, %s, %s)"
GOOD = str(vector("x", 8))
SHORT = str(vector("x", 4))


@pytest.fixture
def texts(db, docs, model):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    db.execute("CREATE TABLE other (id int PRIMARY KEY, body text)")
    db.execute("SELECT embed_create('other', 'other', columns => '{body}', model => 'loop')")
    return claim(db)


def test_nonsense_is_refused_whole(db, texts):
    token, one, two = texts[0].token, texts[0].hash, texts[1].hash
    cases = [
        ((token, [one, two], [GOOD]), "2202E", "2 hashes and 1 vectors"),
        ((token, [one], []), "2202E", "1 hashes and 0 vectors"),
        ((token, None, [GOOD]), "22004", "hashes is NULL"),
        ((token, [one], None), "22004", "vectors is NULL"),
        ((token, [one, None], [GOOD, GOOD]), "22004", "hashes"),
        ((token, [one, two], [GOOD, None]), "22004", "vectors"),
        ((token, [one, two], [GOOD, SHORT]), "22023", 'has 4 dimensions, and model "loop"'),
        ((token, [one, b"x" * 32], [GOOD, GOOD]), "22023", f"1 of 2 hashes do not belong to claim {token}"),
        ((token, [one, b""], [GOOD, GOOD]), "22023", "1 of 2 hashes"),
        ((token, [one, one], [GOOD, str(vector("y", 8))]), "22023", "occurs twice"),
        ((None, [one], [GOOD]), "42704", "no claim NULL"),
        ((0, [one], [GOOD]), "42704", "no claim 0"),
        ((-5, [one], [GOOD]), "42704", "no claim -5"),
        ((2**62, [one], [GOOD]), "42704", "no claim"),
    ]
    for (number, hashes, vectors), state, said in cases:
        error = refused(db, "SELECT embed_submit('docs', %s, %s, %s::vector[])", (number, hashes, vectors))
        assert (error.sqlstate, said in str(error)) == (state, True), (error.sqlstate, str(error))
    deep = "SELECT embed_submit('docs', %s, ARRAY[ARRAY[%s::bytea]], ARRAY[%s::vector])"
    assert refused(db, deep, (token, one, GOOD)).sqlstate == "2202E"
    minus = "SELECT embed_submit('docs', %s, %s, %s::vector[], -1)"
    assert refused(db, minus, (token, [one], [GOOD])).sqlstate == "22023"
    wrong = refused(db, "SELECT embed_submit('other', %s, %s, %s::vector[])", (token, [one], [GOOD]))
    assert 'does not belong to pipeline "other"' in str(wrong)
    assert kept(db) == 0
    assert submit(db, texts) == 10


def test_what_is_no_vector_is_none_to_the_database(db, texts):
    """pgvector's own type refuses it, before anything of ours is called."""
    for bad in ("[1,2,3,4,5,6,7,NaN]", "[1,2,3,4,5,6,7,Infinity]", "[1,2,x]"):
        with pytest.raises(errors.DataError):
            db.execute("SELECT embed_submit('docs', %s, %s, %s::vector[])", (texts[0].token, [texts[0].hash], [bad]))
    assert submit(db, texts) == 10


CALLS = {
    "SELECT embed_claim('docs', 0)": "22023",
    "SELECT embed_claim('docs', -1)": "22023",
    "SELECT embed_claim('docs', NULL)": "22023",
    "SELECT embed_claim('docs', 1000000)": "22023",
    "SELECT embed_claim('docs', 1, NULL)": "22023",
    "SELECT embed_claim('docs', 1, '-1 s')": "22023",
    "SELECT embed_claim('docs', 1, '2 days')": "22023",
    "SELECT embed_claim('docs', 1, for_model => 'nope')": "42704",
    "SELECT embed_claim('nope', 1)": "42704",
    "SELECT embed_claim(NULL, 1)": "42704",
    "SELECT embed_submit('nope', 1, '{}', '{}')": "42704",
    "SELECT embed_release('docs', NULL)": "42704",
    "SELECT embed_release('docs', 0)": "42704",
    "SELECT embed_release('nope', 1)": "42704",
    "SELECT embed_wait('nope')": "42704",
    "SELECT embed_wait(NULL)": "42704",
    "SELECT embed_wait('docs', 'null')": "22023",
    "SELECT embed_wait('docs', '[1, 2]')": "22023",
    "SELECT embed_wait('docs', '\"one\"')": "22P02",
    "SELECT embed_wait('docs', timeout => NULL)": "22023",
    "SELECT embed_wait('docs', timeout => '-1 s')": "22023",
    "SELECT embed_wait('docs', timeout => '1 year')": "22023",
}


def test_calls_that_are_refused(db, texts):
    agree({call: refused(db, call).sqlstate for call in CALLS}, CALLS)


def test_release_of_what_is_not_out(db, texts):
    query = "SELECT embed_release('docs', %s, %s)"
    assert refused(db, query, (texts[0].token, [texts[0].hash, b"y" * 32])).sqlstate == "22023"
    assert refused(db, query, (texts[0].token, [texts[0].hash, None])).sqlstate == "22004"
    submit(db, texts[:2])
    assert db.execute(query, (texts[0].token, [texts[0].hash])).fetchone() == (0,)  # its vector came


def test_a_workers_token_is_no_claim_of_embed_claim(db, texts):
    db.execute("INSERT INTO embed.lease SELECT 5 << 24, id, now() + '1 h' FROM embed.generation LIMIT 1")
    assert refused(db, SUBMIT.replace("%s, %s)", "'{}', '{}')"), (5 << 24,)).sqlstate == "42704"


def test_read_committed_only(connect, texts):
    session = connect()
    for isolation, call in product(
        ("REPEATABLE READ", "SERIALIZABLE"),
        (
            "SELECT embed_claim('docs', 1)",
            "SELECT embed_submit('docs', 1, '{}', '{}')",
            "SELECT embed_release('docs', 1)",
            "SELECT embed_wait('docs')",
        ),
    ):
        session.execute(f"BEGIN ISOLATION LEVEL {isolation}")
        with pytest.raises(errors.ActiveSqlTransaction) as caught:
            session.execute(call)
        assert isolation in str(caught.value)
        session.execute("ROLLBACK")


def test_they_are_for_workers(connect, db, texts):
    people(db)
    given = (texts[0].token, [texts[0].hash], [GOOD])
    for call, parameters in (
        ("SELECT embed_claim('docs', 1)", ()),
        ("SELECT embed_submit('docs', %s, %s, %s::vector[])", given),
        ("SELECT embed_release('docs', %s)", given[:1]),
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            connect("bob").execute(call, parameters)
        connect("the_worker").execute(call, parameters)
    drain_all(db)
    assert verified(db)["fresh"] == 10
