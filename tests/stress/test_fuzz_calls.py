"""Every function in the extension's schema, by random arguments of its types, for three kinds of callers.

They are found in the catalog, so a new function is in from its first day. `make stress` tries many more.
"""

import json

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.deterministic import often
from tests.fixtures.error_checks import RAW, everything
from tests.fixtures.pipelines.freshness import assert_fresh
from tests.fixtures.roles import hash_model, people

CALLERS = ("postgres", "alice", "bob")  # superuser, owner of the source, reader
# Internal error, what PL/Python makes of an untranslated exception, and other failures of external routines.
RAW_CLASSES = ("XX", "38", "39")

NAMES = ["docs", "alice.docs", "body", "id", "hash8", "hash", "function", "openai", "wordllama-64", "trigger", "vector"]
TEXTS = [
    *NAMES,
    "",
    " ",
    "$body",
    "${",
    "$",
    "{}",
    "'",
    '"',
    "\\",
    "%s %(x)s {0}",
    "\u202e",
    "\n",
    "x" * 5000,
    "\U0010ffff",
]
KEYS = ["chunker", "size", "overlap", "max_attempts", "on_too_long", "live_share", "daily_tokens", "inputs", "price"]
NUMBERS = [0, 1, -1, 8, 1000, 2**31 - 1, 2**63 - 1, -(2**63), 10**400, 0.5, -0.0, 1e308, 5e-324]
RELATIONS = [
    "alice.docs",
    "alice.docs_embedding",
    "embed.job",
    "embed_store.g1",
    "embed.token",
    "pg_class",
    "0",
    "123456789",
]
INTERVALS = ["0", "1 ms", "-1 s", "00:00:00.000001", "-178000000 years", "1 mon -30 days"]

texts = st.one_of(
    st.sampled_from(TEXTS), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
)
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(KEYS), texts), inner, max_size=3)
    ),
    max_leaves=6,
).map(json.dumps)
integers = st.one_of(st.sampled_from([0, 1, -1, 8, 100_000, 2**31 - 1, -(2**31)]), st.integers(-(2**31), 2**31 - 1))


def arrays(of):
    """Also with NULLs, empty, and of two dimensions."""
    several = st.lists(st.one_of(st.none(), of), max_size=3)
    return st.one_of(several, st.lists(st.tuples(of, of).map(list), min_size=1, max_size=2))


KINDS = {
    "text": texts,
    "name": texts,
    "jsonb": documents,
    "integer": integers,
    "boolean": st.booleans(),
    "double precision": st.sampled_from(["0", "-1", "NaN", "Infinity", "-Infinity", "1e308", "1e-308"]),
    "interval": st.sampled_from(INTERVALS),
    "regclass": st.sampled_from(RELATIONS),
    "text[]": arrays(texts),
    "jsonb[]": arrays(documents),
    "bigint": st.one_of(integers, st.sampled_from([2**63 - 1, -(2**63), 1 << 24, 5 << 24])),
    "bytea[]": arrays(st.binary(max_size=33)),
    "vector[]": arrays(st.sampled_from(["[1,2,3]", "[0,0,0,0,0,0,0,0]", "[1e30,2,3,4,5,6,7,8]"])),
}
ROWS = ["NULL::alice.docs", "ROW(1, 'x')::alice.docs", "NULL::alice.docs_embedding", "5", "NULL::text", "'{a}'::text[]"]

CALLS = """
SELECT p.proname, p.prokind::text, p.provariadic <> 0,
       ARRAY(SELECT format_type(t.type, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY t (type, place) ORDER BY place)
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'evergreen' AND e.extnamespace = p.pronamespace
ORDER BY 1
"""
SESSION = """
SELECT (SELECT jsonb_object_agg(name, setting) FROM pg_settings WHERE source = 'session'),
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
       (SELECT count(*) FROM pg_cursors WHERE name <> ''), (SELECT count(*) FROM pg_class WHERE relpersistence = 't')
"""


def statement_of(function, kind, variadic, types):
    """The call with its placeholders; rows of polymorphic arguments are put in by name."""
    marks = ["{row}" if one == "anyelement" else f"%s::{one}" for one in types]
    if variadic:
        marks[-1] = f"VARIADIC {marks[-1]}"
    return f"{'CALL' if kind == 'p' else 'SELECT'} {function}({', '.join(marks)})"


def arguments_of(types):
    """Mostly the pipeline that there is, for the first text: otherwise nearly all would be for unknown names."""
    made = []
    for place, one in enumerate(types):
        if one == "anyelement":
            continue
        strategy = KINDS[one]
        if place == 0 and one == "text":
            strategy = st.one_of(st.just("docs"), st.just("docs"), strategy)
        made.append(st.one_of(strategy, strategy, strategy, strategy, st.none()))
    return st.tuples(st.sampled_from(ROWS), st.tuples(*made))


def what_is_wrong(error):
    """Say what is wrong with a refusal, if anything is; the traceback in its context is PL/Python's own."""
    said = " ".join(filter(None, (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)))
    state = error.sqlstate or "the connection is lost"
    if state.startswith(RAW_CLASSES) or error.sqlstate is None or RAW.search(said):
        return f"{state} {said}"
    return "it took too long" if state == "57014" else None


class Caller:
    """One session, and a superuser who looks at what its calls leave behind."""

    def __init__(self, db, session):
        self._db, self._session = db, session
        session.execute("SET statement_timeout = '20 s'")
        self._before = session.execute(SESSION).fetchone()

    def call(self, statement, arguments):
        """Call once; whatever raises must have changed nothing."""
        before, wrong = everything(self._db), None
        try:
            self._session.execute(statement, arguments)
        except psycopg.Error as error:
            wrong = what_is_wrong(error) or (everything(self._db) != before and f"left behind by {error}")
        assert not wrong, (statement, arguments)
        assert self._session.execute(SESSION).fetchone() == self._before, (statement, arguments)
        self._restore()

    def _restore(self):
        there = "SELECT count(*) FROM embed.pipeline WHERE name = 'docs' AND state = 'active'"
        if self._db.execute(there).fetchone() == (0,):
            self._db.execute("SELECT embed_drop('docs', if_exists => true)")
            self._db.execute("DROP TABLE IF EXISTS alice.docs_embeddings")
            self._db.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8')")

    def nothing_waits(self):
        """No step with the extension's rights was left in memory for the next caller."""
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            self._session.execute("SELECT embed_elevate()")


@pytest.fixture
def callers(db, connect):
    people(db)
    hash_model(db)
    db.execute("SET client_min_messages = error")
    db.execute("CREATE TABLE alice.docs (id int PRIMARY KEY, body text)")
    db.execute("ALTER TABLE alice.docs OWNER TO alice; GRANT SELECT ON alice.docs TO bob")
    db.execute("INSERT INTO alice.docs SELECT i, 'body ' || i FROM generate_series(1, 5) i")
    db.execute("SELECT embed_create('docs', 'alice.docs', columns => '{body}', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    return [Caller(db, connect(name)) for name in CALLERS]


def fuzz(caller, call, examples):
    statement, types = statement_of(*call), call[3]

    @often(examples)
    @given(arguments_of(types))
    def run(made):
        row, arguments = made
        caller.call(statement.replace("{row}", row), arguments)

    run()


@pytest.mark.parametrize("examples", [2, pytest.param(100, marks=pytest.mark.stress)])
def test_no_argument_gets_through_to_python_or_leaves_anything_behind(db, callers, examples):
    calls = db.execute(CALLS).fetchall()
    assert len(calls) > 30
    for caller in callers:
        for call in calls:
            fuzz(caller, call, examples if call[3] else 1)
            caller.nothing_waits()
    for row in db.execute("SELECT name FROM embed.pipeline WHERE name <> 'docs'").fetchall():
        db.execute("SELECT embed_drop(%s)", row)
    db.execute("UPDATE alice.docs SET body = 'after all that'")
    assert_fresh(db, "docs", 5)
