"""A key goes to its server in a header or a parameter, and nowhere else: not into errors, logs, tables, views or dumps,
nor to a role that may not spend it.
"""

import json
import logging
import shutil
import subprocess
import threading
import traceback
from pathlib import Path

import psycopg
import psycopg.types.json
import pytest

from evergreen.core.errors import ModelError
from evergreen_host.cluster import Cluster
from tests.fixtures.error_checks import refused
from tests.fixtures.pipelines.documents import drain_once, status_of
from tests.fixtures.providers import faults
from tests.fixtures.providers.direct import SERVED
from tests.fixtures.roles import people

pytestmark = pytest.mark.shared_database

KEY = "sk-Zr7QmW2vT9xLpB4nKd8sHc3f"
PIECES = [KEY[i : i + 8] for i in range(len(KEY) - 7)]
SERVER_OPTIONS = {
    "log_statement": "all",
    "log_min_messages": "debug1",
    "log_connections": "on",
    "log_min_error_statement": "log",
}
FAULTS = [
    faults.status(401, f"no such key: {KEY}".encode()),
    faults.status(500, f"Authorization: Bearer {KEY}".encode()),
    faults.status(400, f'{{"error": "bad text, key {KEY}"}}'.encode()),
    faults.reset(),
    faults.html(),
]


@pytest.fixture
def folder(tmp_path_factory):
    """Where the server finds secrets, with the key in it."""
    folder = Path(tmp_path_factory.mktemp("secrets"))
    (folder / "model_key").write_text(KEY + "\n")
    (folder / "model_key").chmod(0o640)
    for path in (folder, folder / "model_key"):
        shutil.chown(path, "postgres", "postgres")
    for parent in list(folder.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o111)
    return folder


@pytest.fixture
def keyed_server(folder):
    """A server of our own that finds the key in a file, and by another name in its environment."""
    with Cluster(
        options=SERVER_OPTIONS, env={"EVERGREEN_SECRETS": str(folder), "EVERGREEN_SECRET_other_key": KEY}
    ) as made:
        with psycopg.connect(made.dsn(), autocommit=True) as db:
            db.execute("CREATE DATABASE keyed")
        yield made


def contents(db):
    """Every row of every table, view and sequence that there is, as text."""
    kinds = "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'v', 'm', 'S', 't')"
    relations = db.execute(kinds).fetchall()
    for (name,) in relations:
        try:
            for (row,) in db.execute(f"SELECT r::text FROM {name} r"):
                yield name, row
        except psycopg.Error:
            continue  # views that want something special, such as a library


@pytest.mark.slow
def test_a_key_is_found_nowhere(keyed_server, provider):
    said = []
    with psycopg.connect(keyed_server.dsn("keyed"), autocommit=True) as db:
        db.add_notice_handler(
            lambda told: said.append(f"{told.message_primary} {told.message_detail} {told.message_hint}")
        )
        db.execute("CREATE EXTENSION evergreen CASCADE")
        db.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
        db.execute("INSERT INTO docs SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 10) i")
        own = {"headers": {"api-key": {"secret": "other_key"}}, "query": {"key": {"secret": "model_key"}}}
        provider.register(db, secret="model_key", endpoint=own)
        db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
        for fault in FAULTS:
            provider.fail(fault)
            for call in (
                "SELECT embed_drain()",
                "CALL embed_work(until_empty => true)",
                "SELECT embed_query('docs', 'q')",
            ):
                try:
                    db.execute(call)
                except psycopg.Error as error:
                    said.append(f"{error} {error.diag.context} {error.diag.message_detail} {error.diag.message_hint}")
            provider.mend()
            changed = "SELECT embed_endpoint_set('loop', %s, secret => 'other_key', options => %s)"
            db.execute(changed, (provider.url, json.dumps(own)))
            db.execute("UPDATE embed.job SET ready_at = clock_timestamp()")
        db.execute("SELECT embed_drain()")
        assert len(db.execute("SELECT id FROM docs_embedding").fetchall()) == 10
        assert {call.headers["authorization"] for call in provider.calls} == {f"Bearer {KEY}"}
        assert {(call.headers["api-key"], call.query["key"]) for call in provider.calls} == {(KEY, KEY)}
        provider.hold()
        db.execute("UPDATE docs SET body = 'edited'")
        worker = psycopg.connect(keyed_server.dsn("keyed"), autocommit=True)
        before = len(provider.requests)
        threading.Thread(target=lambda: worker.execute("CALL embed_work(until_empty => true)"), daemon=True).start()
        provider.wait_for_requests(before + 1)
        for name, row in contents(db):  # with a request under way
            assert not any(piece in row for piece in PIECES), name
        provider.release()
    dumped = subprocess.run(
        [keyed_server.bin("pg_dump"), "-d", keyed_server.dsn("keyed")], capture_output=True, text=True, check=True
    ).stdout
    for what, text in {
        "a dump": dumped,
        "the log": keyed_server.logfile.read_text(),
        "a message": "\n".join(said),
    }.items():
        assert len(text) > 100, what
        assert not [piece for piece in PIECES if piece in text], what


def test_a_file_that_others_may_read_is_said_at_once(keyed_server, folder):
    """Whatever keeps the server from a secret is said when it is set: no file, one with wrong rights, no key in it."""
    said = []
    key = folder / "model_key"
    with psycopg.connect(keyed_server.dsn("keyed"), autocommit=True) as db:
        db.add_notice_handler(lambda told: said.append(f"{told.severity} {told.message_primary} {told.message_hint}"))
        db.execute("CREATE EXTENSION evergreen CASCADE")
        said.clear()
        setting = "SELECT embed_endpoint_set('e', 'https://models.example.com', secret => %s)"
        for mode, content, told in (
            (0o644, KEY, "others may read or change its file; chmod 0640"),
            (0o660, KEY, "others may read or change its file; chmod 0640"),
            (0o640, "two\nlines", "must be one line"),
            (0o640, None, "is neither a file in"),
        ):
            key.chmod(mode)
            key.write_text(content) if content is not None else key.unlink()
            db.execute(setting, ("model_key",))
            assert said[-1].startswith("WARNING")
            assert told in said[-1]
            assert not [piece for piece in PIECES if piece in "".join(said)]
        said.clear()
        db.execute(setting, ("other_key",))
        assert said == []


ECHOES = [
    f'{{"error": "Incorrect API key provided: {KEY}."}}',
    f"Bearer {KEY}",
    f"{KEY}" * 50,
    "x" * 190 + KEY,
    f"key {KEY[:12]} is unknown",
    f"key ...{KEY[-12:]} is unknown",
]


@pytest.fixture
def keyed(monkeypatch):
    """The name of a secret in this process's environment."""
    monkeypatch.setenv("EVERGREEN_SECRET_key", KEY)
    return "key"


def said(error):
    """All that an error and those below it hold, as a log would show it with the values of locals."""
    shown = []
    while error is not None:
        shown += [repr(error), str(error), repr(error.args), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    return "".join(shown)


def without_key(text):
    return not any(piece in text for piece in PIECES)


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("code", [200, 400, 401, 429, 500, 302])
def test_a_server_that_repeats_the_key(ask, provider, keyed, echo, code):
    provider.fail(faults.status(code, echo.encode()))
    with pytest.raises(ModelError) as found:
        ask("openai", ["text"], secret=keyed)
    assert without_key(said(found.value))


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize(
    "fault", [faults.html(), faults.noise(), faults.reset(), faults.truncated(), faults.count(1), faults.count(-1)]
)
def test_whatever_goes_wrong_the_key_is_in_no_error_and_no_log(ask, provider, keyed, name, fault, caplog):
    caplog.set_level(logging.DEBUG)
    provider.fail(fault)
    with pytest.raises(ModelError) as found:
        ask(name, ["text"], secret=keyed)
    assert without_key(said(found.value))
    assert without_key(caplog.text)


@pytest.mark.slow
def test_a_secret_that_is_missing_is_named_with_its_places(db, docs, provider):
    provider.register(db, secret="nowhere")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    drain_once(db)
    assert "EVERGREEN_SECRET_nowhere" in status_of(db, "last_error")
    assert status_of(db, "pending") == 10
    assert status_of(db, "failed") == 0
    assert not provider.sent


@pytest.mark.parametrize(
    "value", ["sk-proj/0123456789==", f"Bearer {KEY}", f"{KEY}\n", "../../etc/passwd", "/etc/passwd"]
)
def test_a_value_in_place_of_a_name_is_refused_unseen(db, value):
    error = refused(db, "SELECT embed_endpoint_set('e', 'https://models.example.com/v1', secret => %s)", (value,))
    assert value.strip() not in str(error)
    assert "name of a secret" in str(error)


# An organization or project may be any printable identifier, so only a proxy's URL can be refused for its password.
SECRETS_IN_OPTIONS = [
    *(
        (option, value)
        for option in ("organization", "project", "proxy")
        for value in (f"{KEY}\n", f"{KEY}é", 5, "", None)
    ),
    ("proxy", f"http://user:{KEY}@proxy.example.com:3128"),
]


@pytest.mark.parametrize(("option", "value"), SECRETS_IN_OPTIONS)
def test_an_option_that_may_hold_a_secret_is_not_repeated(db, option, value):
    options = psycopg.types.json.Jsonb({option: value})
    error = refused(db, "SELECT embed_endpoint_set('e', 'https://models.example.com', options => %s)", (options,))
    assert without_key(f"{error}{error.diag.message_detail}{error.diag.message_hint}")


@pytest.mark.slow
def test_who_may_not_use_a_model_cannot_spend_on_it(db, connect, docs, provider):
    """Nor by SET ROLE, nor from a function of a role that may: the role that the call runs as counts."""
    people(db)
    provider.register(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'loop')")
    session = connect("bob")
    for call in ("SELECT embed('x', 'loop')", "SELECT embed_query('docs', 'x')", "SELECT embed_drain()"):
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject)):
            session.execute(call)
    payer = connect()
    payer.execute("SET ROLE the_payer")
    with pytest.raises(psycopg.errors.UndefinedObject):
        payer.execute("SELECT embed_query('docs', 'x')")
    payer.execute("SET ROLE bob")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        payer.execute("SELECT embed('x', 'loop')")
    assert not provider.sent
    db.execute("GRANT SELECT ON docs TO bob")
    assert session.execute("SELECT embed_query('docs', 'x') IS NOT NULL").fetchone() == (True,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT embed('y', 'loop')")
    assert dict(provider.sent) == {"x": 1}


def test_who_administers_nothing_sees_no_url_and_no_endpoints_options(db, connect, provider):
    people(db)
    provider.register(db, endpoint={"organization": "org-1", "max_in_flight": 2}, secret="key_name")
    rows = str(connect("bob").execute("SELECT to_jsonb(v) FROM embed_models v").fetchall())
    assert "'loop'" in rows
    assert not any(hidden in rows for hidden in ("127.0.0.1", "org-1", "key_name"))
    for table in ("embed.endpoint", "embed.model"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connect("bob").execute(f"SELECT * FROM {table}")
