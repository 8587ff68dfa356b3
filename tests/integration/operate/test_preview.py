"""embed_preview shows what a pipeline would make and cost, creates nothing, and reads as the caller."""

import json

import psycopg
import pytest

from tests.fixtures.error_checks import everything, fault, refused
from tests.fixtures.roles import people

pytestmark = pytest.mark.shared_database

PREVIEW = "SELECT key, chunk_no, chunk, tokens FROM embed_preview({})"


@pytest.fixture
def notices(db):
    heard = []
    db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    return heard


def preview(db, arguments):
    before = db.execute("SELECT count(*) FROM pg_proc"), everything(db)
    rows = db.execute(PREVIEW.format(arguments)).fetchall()
    assert everything(db) == before[1]
    return rows


def test_three_rows_and_what_the_table_would_cost(db, docs, provider, notices):
    provider.register(db, inputs=4, price=2.0)
    rows = preview(db, "'docs', columns => '{title,body}', model => 'loop'")
    assert rows == [([i], 0, f"title {i}\n\nbody {i}", 4) for i in (1, 2, 3)]
    figures, next_call = notices[0].split("; next: ")
    assert figures == "public.docs with model loop: 10 rows, 10 texts, 41 tokens, 3 calls, cost 8.2e-05, 1 s"
    assert next_call == "SELECT embed_create('name', 'public.docs', …)"
    assert provider.requests == []
    assert db.execute("SELECT to_regclass('docs_embedding')").fetchone() == (None,)


def test_what_it_says_is_what_a_pipeline_then_costs(db, docs, provider, notices):
    provider.register(db, inputs=4, price=2.0)
    db.execute("UPDATE docs SET body = repeat('A sentence of some length. ', id) WHERE id < 5")
    db.execute("UPDATE docs SET body = 'same', title = 'same' WHERE id > 8")
    arguments = "'docs', template => '$title: $body', chunker => embed_chunk_text(size => 40), model => 'loop'"
    rows = preview(db, arguments)
    db.execute(f"SELECT embed_create('docs', {arguments})")
    texts, tokens, calls, *_ = db.execute("SELECT * FROM embed_estimate('docs')").fetchone()
    assert f"10 rows, {texts} texts, {tokens} tokens, {calls} calls" in notices[0]
    db.execute("SELECT embed_drain()")
    stored = "SELECT key, chunk_no, chunk FROM docs_embedding WHERE id <= 3 ORDER BY id, chunk_no"
    assert [row[:3] for row in rows] == db.execute(stored).fetchall()
    assert provider.sent.total() == texts


@pytest.mark.slow
def test_texts_are_as_a_worker_reads_them(db, notices):
    db.execute("CREATE TABLE t (at timestamptz PRIMARY KEY, f float8, b bytea)")
    db.execute("INSERT INTO t VALUES ('2024-05-06 07:08:09+00', 1.0/3, 'x')")
    db.execute("SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = German; SET bytea_output = escape")
    [(key, _, text, _)] = preview(db, "'t', columns => '{at,f,b}'")
    db.execute("SELECT embed_create('t', 't', columns => '{at,f,b}'), embed_drain()")
    db.execute("SELECT embed_drain()")
    assert db.execute("SELECT key, chunk FROM t_embedding").fetchall() == [(key, text)]


def test_rows_without_text_and_empty_tables(db, docs, notices):
    db.execute("UPDATE docs SET body = NULL WHERE id = 1")
    db.execute("UPDATE docs SET body = E' \\n' WHERE id = 2")
    assert preview(db, "'docs', '{body}'") == [([1], None, None, 0), ([2], None, None, 0), ([3], 0, "body 3", 2)]
    db.execute("TRUNCATE docs")
    assert preview(db, "'docs', '{body}'") == []
    assert "0 rows, 0 texts, 0 tokens, 0 calls, no cost, 0 s" in notices[-1]


def test_over_long_texts_are_warned_of(db, docs, provider, notices):
    provider.register(db, input_tokens=5)
    db.execute("UPDATE docs SET body = repeat('word ', 20) WHERE id = 7")
    preview(db, "'docs', '{body}', model => 'loop'")
    assert "9 texts" in notices[0]
    assert "cost unknown" in notices[0]
    assert notices[1].startswith("1 text of 10 rows would be longer than the 5 tokens")


def test_a_large_table_is_sampled(db, notices):
    db.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO t SELECT i, 'body ' || i FROM generate_series(1, 50000) i; ANALYZE t")
    assert len(preview(db, "'t', '{body}', model => 'wordllama-64'")) == 3
    assert "estimated from " in notices[0]
    assert " 50,000 rows, 50,0" in notices[0]


def test_partitions_and_composite_keys(db, notices):
    db.execute("CREATE TABLE p (a int, b text, body text, PRIMARY KEY (b, a)) PARTITION BY RANGE (a)")
    db.execute("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000)")
    db.execute("CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (1000) TO (20000)")
    db.execute("INSERT INTO p SELECT i, 'k', 'body ' || i FROM generate_series(1, 19999) i; ANALYZE p1; ANALYZE p2")
    assert [row[:3] for row in preview(db, "'p', '{body}'")] == [(["k", i], 0, f"body {i}") for i in (1, 2, 3)]
    assert "19,999 rows" in notices[0]


BAD = {
    "no source": ("NULL, '{body}'", "22004"),
    "no primary key": ("'keyless', '{body}'", "42P17"),
    "neither": ("'docs'", "22023"),
    "both": ("'docs', '{body}', '$body'", "22023"),
    "no columns": ("'docs', '{}'", "22023"),
    "unknown column": ("'docs', '{nope}'", "42703"),
    "twice": ("'docs', '{body,body}'", "22023"),
    "backslash": (r"'docs', template => '$title\n$body'", "22023"),
    "chunker": ("'docs', '{body}', chunker => '{\"chunker\": \"magic\"}'", "22023"),
    "model": ("'docs', '{body}', model => 'nope'", "42704"),
}


def test_wrong_arguments_give_the_errors_of_embed_create(db, docs):
    db.execute("CREATE TABLE keyless (body text)")
    for name, (arguments, state) in BAD.items():
        error = refused(db, PREVIEW.format(arguments))
        assert error.sqlstate == state, name
        create = refused(db, f"SELECT embed_create('x', {arguments})") if arguments.count(", '$") == 0 else error
        assert error.diag.message_primary == create.diag.message_primary, name


@pytest.fixture
def shared(db):
    """A table of alice's with row security, whose rows run code of hers when they are read."""
    people(db)
    db.execute(
        """
        CREATE FUNCTION alice.who(int) RETURNS bool LANGUAGE plpgsql AS
            $$BEGIN RAISE NOTICE 'policy runs as %', current_user; RETURN $1 % 2 = 0; END$$;
        CREATE TABLE alice.docs (id int PRIMARY KEY, body text, secret text);
        INSERT INTO alice.docs SELECT i, 'body ' || i, 'secret' FROM generate_series(1, 10) i;
        ALTER TABLE alice.docs OWNER TO alice;
        ALTER TABLE alice.docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY even ON alice.docs USING (alice.who(id));
        """
    )


@pytest.mark.slow
def test_rows_are_read_as_the_caller(db, connect, shared):
    bob = connect("bob")
    error = refused(bob, PREVIEW.format("'alice.docs', '{body}'"), count_as=db)
    assert error.sqlstate == "42501"
    assert error.diag.message_primary == "evergreen: permission denied for table alice.docs"
    db.execute("GRANT SELECT (id, body) ON alice.docs TO bob")
    heard = []
    bob.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    rows = bob.execute(PREVIEW.format("'alice.docs', '{body}'")).fetchall()
    assert [row[2] for row in rows] == ["body 2", "body 4", "body 6"]
    assert {words for words in heard if words.startswith("policy")} == {"policy runs as bob"}
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        bob.execute(PREVIEW.format("'alice.docs', '{secret}'"))
    assert fault(caught.value) is None
    assert len(connect("alice").execute(PREVIEW.format("'alice.docs', '{body}'")).fetchall()) == 3


def test_code_in_the_rows_gains_nothing(db, connect):
    """An output function cannot be a user's; what a column generates, a domain checks or a policy asks can."""
    people(db)
    alice = connect("alice")
    alice.execute(
        """
        CREATE FUNCTION alice.attack(int) RETURNS bool LANGUAGE plpgsql AS
            $$BEGIN RAISE NOTICE 'super %', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
                    PERFORM public.embed_elevate(); RETURN true; END$$;
        CREATE TABLE alice.trap (id int PRIMARY KEY, body text);
        INSERT INTO alice.trap VALUES (1, 'x');
        ALTER TABLE alice.trap ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON alice.trap USING (alice.attack(id));
        GRANT SELECT ON alice.trap TO bob;
        """
    )
    bob = connect("bob")
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
        bob.execute(PREVIEW.format("'alice.trap', '{body}'"))
    assert "embed_elevate is internal" in caught.value.diag.message_primary


def test_nothing_is_left_locked(db, connect, docs):
    session = connect()
    session.execute("BEGIN")
    assert len(session.execute(PREVIEW.format("'docs', '{body}'")).fetchall()) == 3
    connect(options="-c lock_timeout=1000").execute("ALTER TABLE docs ADD COLUMN extra int")
    session.execute("COMMIT")


def test_read_only_transactions_will_do(connect, docs):
    session = connect()
    session.execute("BEGIN READ ONLY")
    assert len(session.execute(PREVIEW.format("'docs', '{body}'")).fetchall()) == 3


def test_chunkers_as_json(db, docs):
    chunker = json.dumps({"chunker": "text", "size": 3, "overlap": 0})
    rows = db.execute(PREVIEW.format("'docs', '{body}', chunker => %s"), [chunker]).fetchall()
    assert [row[1:3] for row in rows[:3]] == [(0, "bod"), (1, "y"), (2, "1")]
