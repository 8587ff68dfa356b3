"""Whatever is passed to any call of the API, the backend lives and the answer is an error of a sensible class."""

import json
import random

import psycopg

from tests.fixtures.error_checks import RAW_STATES
from tests.fixtures.roles import hash_model

ROUNDS = 60
NOT_HERE = {"embed_schedule", "embed_unschedule", "embed_drop", "embed_model_drop", "embed_search_rows", "embed_work"}


def texts(dice):
    """A text of anything that Postgres can store."""
    ranges = [(1, 127), (128, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    known = [
        "docs",
        "body",
        "$body",
        "${body}",
        "$",
        "{",
        "}",
        "'",
        '"',
        "\\",
        "%s",
        "{body}",
        "--",
        ";",
        "\u202e",
        "0",
        "-1",
    ]

    def one():
        if dice.random() < 0.5:
            return dice.choice(known)
        return chr(dice.randint(*dice.choice(ranges)))

    return "".join(one() for _ in range(dice.choice([0, 1, 1, 2, 5, 50])))


def documents(dice, depth=0):
    """A JSON value, more often than not one with keys that mean something."""
    keys = ["chunker", "size", "overlap", "max_attempts", "on_too_long", "live_share", "inputs", "allow_http", "x"]
    kind = dice.randint(0, 7 if depth < 3 else 4)
    if kind == 0:
        return texts(dice)
    if kind == 1:
        return dice.choice([0, 1, -1, 5, 2**31, 2**63, 10**400, 1.5, -0.0, 1e-300])
    if kind in {2, 3}:
        return dice.choice([None, True, False, "none", "text", "fail"])
    if kind in {4, 5}:
        return [documents(dice, depth + 1) for _ in range(dice.randint(0, 3))]
    return {dice.choice(keys): documents(dice, depth + 1) for _ in range(dice.randint(0, 3))}


MAKERS = {
    "text": texts,
    "name": lambda dice: texts(dice)[:15],
    "jsonb": lambda dice: json.dumps(documents(dice)),
    "integer": lambda dice: dice.choice([0, 1, 2, -1, 8, 1000, 2**31 - 1, -(2**31)]),
    "bigint": lambda dice: dice.choice([0, 1, 2, -1, 2**63 - 1, -(2**63)]),
    "boolean": lambda dice: dice.choice([True, False]),
    "double precision": lambda dice: dice.choice(["0", "-1", "NaN", "Infinity", "1e308", "1e-308"]),
    "interval": lambda dice: dice.choice(["0", "1 ms", "-1 s", "1 s 5 ms", "-178000000 years"]),
    "regclass": lambda dice: dice.choice(["docs", "embed.job", "pg_class", "0", "123456789"]),
    "bytea[]": lambda dice: [texts(dice).encode() for _ in range(dice.randint(0, 3))],
    "vector[]": lambda dice: [dice.choice(["[1,2,3]", "[1e30,2,3,4,5,6,7,8]"]) for _ in range(dice.randint(0, 3))],
    "text[]": lambda dice: [texts(dice) for _ in range(dice.randint(0, 3))],
    "jsonb[]": lambda dice: [json.dumps(documents(dice)) for _ in range(dice.randint(0, 3))],
}

CALLS = """
SELECT p.proname, array_agg(format_type(t.oid, NULL) ORDER BY a.position), p.provariadic <> 0
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'evergreen',
    unnest(p.proargtypes) WITH ORDINALITY a (type, position) JOIN pg_type t ON t.oid = a.type
WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f'
GROUP BY p.oid ORDER BY 1
"""


def test_no_argument_gets_through_to_python(db, docs):
    """Seeded: a failure can be looked at again."""
    dice = random.Random(20)
    hash_model(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'hash8')")
    pid = db.info.backend_pid
    db.execute("SET statement_timeout = '20s'")
    calls = [call for call in db.execute(CALLS) if call[0] not in NOT_HERE and "anyelement" not in call[1]]
    assert len(calls) > 15
    raw = []
    for function, types, variadic in calls:
        for _ in range(ROUNDS):
            arguments = [None if dice.random() < 0.1 else MAKERS[kind](dice) for kind in types]
            if types[0] == "text" and dice.random() < 0.6:
                arguments[0] = "docs"  # otherwise only unknown names
            marks = [f"%s::{kind}" for kind in types]
            if variadic:
                marks[-1] = "VARIADIC " + marks[-1]
            try:
                db.execute(f"SELECT {function}({', '.join(marks)})", arguments)
            except psycopg.Error as error:
                if error.sqlstate in RAW_STATES or error.sqlstate is None:
                    raw.append((function, arguments, str(error)[:200]))
    assert raw == []
    assert db.info.backend_pid == pid
    assert db.execute("SELECT pg_backend_pid()").fetchone() == (pid,)


def test_random_documents_are_embedded_and_found_fresh(db):
    dice = random.Random(21)
    hash_model(db)
    db.execute("CREATE TABLE odd (id text PRIMARY KEY, body text, data jsonb)")
    rows = [(f"{i} {texts(dice)}", texts(dice), json.dumps(documents(dice))) for i in range(200)]
    db.cursor().executemany("INSERT INTO odd VALUES (%s, %s, %s)", rows)
    db.execute("SELECT embed_create('odd', 'odd', template => '$body / $data', model => 'hash8')")
    db.execute("SELECT embed_drain()")
    assert dict(db.execute("SELECT * FROM embed_verify('odd')").fetchall())["fresh"] == len(rows)
    wrong = db.execute("SELECT FROM odd o JOIN odd_embedding e USING (id) WHERE e.chunk <> o.body || ' / ' || o.data")
    assert wrong.fetchall() == []
    for key, _, _ in rows[:20]:
        assert "fresh" in db.execute("SELECT embed_explain('odd', to_jsonb(%s::text))", [key]).fetchone()[0]
