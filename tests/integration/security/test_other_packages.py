"""Packages of the server's library directory, and those of the same names that a user's PL/Python function loads.

The kind: one Python a session, one ``sys.modules``. Whichever comes first, ours are ours and theirs are theirs, also
for imports that run later. numpy cannot be loaded twice in a process: an older one than ours will do, one that is too
old is a clear error before anything is done.
"""

import tempfile
import textwrap
from pathlib import Path

import psycopg
import psycopg.sql
import pytest

from tests.fixtures.pipelines.documents import drain_all
from tests.fixtures.pipelines.endpoints import create, serve

pytestmark = [pytest.mark.slow, pytest.mark.shared_database, pytest.mark.own_sessions]

STUBS = {
    "urllib3/__init__.py": "__version__ = '1.26.12'\n",
    "urllib3/exceptions.py": "class HTTPError(Exception): pass\n",
    "requests.py": "import urllib3\n__version__ = '2.28.1'\nused = urllib3.__version__\n",
    "chardet.py": "__version__ = '0'\n",
    "simplejson.py": "__version__ = '0'\n",
    "charset_normalizer.py": "__version__ = '0'\n",
    "certifi.py": "def where(): return '/nowhere'\n",
    "orjson.py": "__version__ = '0'\n",
    "idna/__init__.py": "__version__ = '0'\n",
    "markdown_it.py": "__version__ = '0'\n",
    "wordllama.py": "__version__ = '0'\n",
    "tokenizers.py": "__version__ = '0'\n",
    "pydantic.py": "__version__ = '0'\n",
    "typing_extensions.py": "__version__ = '0'\n",
}
NAMES = sorted({path.partition("/")[0].removesuffix(".py") for path in STUBS})


@pytest.fixture
def folder():
    """A folder that the server can read, also when another run of pytest closes the folder that they share."""
    with tempfile.TemporaryDirectory(prefix="theirs-") as made:
        yield Path(made)


@pytest.fixture
def python(folder, db):
    """Runs Python in a session that finds old packages of ours first, as one on a server of Debian's would."""
    for path, text in STUBS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))

    def run(session, body):
        code = f"import sys\nif {str(folder)!r} not in sys.path: sys.path.insert(0, {str(folder)!r})\n"
        body = code + textwrap.dedent(body)
        session.execute(
            psycopg.sql.SQL("CREATE OR REPLACE FUNCTION theirs() RETURNS text LANGUAGE plpython3u AS {}").format(
                psycopg.sql.Literal(body)
            )
        )
        return session.execute("SELECT theirs()").fetchone()[0]

    return run


LOOK = f"""
import importlib
found = [importlib.import_module(name) for name in {NAMES}]
import requests, urllib3.exceptions
assert requests.used == '1.26.12', requests.used
return ' '.join(sorted(one.__name__ for one in found if 'theirs' in one.__file__))
"""
ALL = " ".join(NAMES)


def use(session, word):
    """Everything that needs a package of ours: HTTP, JSON, chunks of Markdown, the built-in model, TLS."""
    session.execute("UPDATE docs SET body = body || %s", (f"\n\n# {word}",))
    drain_all(session)
    assert session.execute("SELECT count(*) FROM embed_search('docs', 'body 7')").fetchone() == (10,)
    assert session.execute("SELECT count(*) FROM embed_search('built', 'body 7', 3)").fetchone() == (3,)
    assert session.execute("SELECT embed('text', 'wordllama-64') IS NOT NULL").fetchone() == (True,)


@pytest.fixture
def pipelines(db, docs, provider):
    """One by a model behind HTTP, and one of Markdown by the built-in model."""
    serve(db, provider)
    create(db)
    db.execute("SELECT embed_create('built', 'docs', columns => '{body}', chunker => embed_chunk_markdown())")


@pytest.mark.parametrize("first", ["theirs", "ours", "in turn"])
def test_ours_are_ours_and_theirs_are_theirs(connect, pipelines, python, first):
    session = connect()
    if first == "theirs":
        assert python(session, LOOK) == ALL
    elif first == "in turn":
        python(session, "import urllib3, certifi")
        session.execute("SELECT embed('text', 'loop')")
    use(session, "one")
    assert python(session, LOOK) == ALL
    use(session, "two")
    assert python(session, LOOK) == ALL
    path = python(session, "return '\\n'.join(sys.path)")
    assert "/evergreen/" not in path


def test_requests_does_without_what_we_do_not_install(connect, pipelines, python):
    """An installed chardet or simplejson would replace charset_normalizer and json, and might not fit."""
    session = connect()
    python(session, "import chardet, simplejson")
    use(session, "one")
    found = python(
        session,
        """
        from evergreen.core import isolation
        compat = isolation._state.modules['requests.compat']
        return f"{compat.chardet.__name__} {compat.json.__name__} {sys.modules['chardet'].__version__}"
        """,
    )
    assert found == "charset_normalizer json 0"


def test_no_package_of_ours_is_left_for_others(connect, pipelines, python):
    session = connect()
    use(session, "one")
    left = python(
        session,
        "return ' '.join(n for n, m in sys.modules.items() if '/evergreen/0' in str(getattr(m, '__file__', '')))",
    )
    assert {name.partition(".")[0] for name in left.split()} <= {"evergreen", "numpy"}


def test_a_secure_connection_trusts_what_our_certifi_does(connect, db, docs, python):
    """certifi looks its file up by its own name, long after it was imported."""
    db.execute("SELECT embed_endpoint_set('far', 'https://127.0.0.1:1/v1', options => '{\"connect_timeout\": 0.5}')")
    db.execute("SELECT embed_model_add('far', 'openai', 8, endpoint => 'far')")
    session = connect()
    python(session, "import certifi")
    with pytest.raises(psycopg.Error, match=r"127.0.0.1:1 cannot be reached"):
        session.execute("SELECT embed('text', 'far')")


@pytest.mark.few(2)
@pytest.mark.parametrize(("version", "enough"), [("1.11.0", False), ("1.23.5", False), ("", False), ("2.9.0", True)])
def test_a_numpy_that_is_too_old_is_said_before_anything_is_done(connect, pipelines, python, version, enough):
    session = connect()
    loads = f"""
    import types
    fake = types.ModuleType('numpy')
    fake.__version__ = {version!r}
    fake.__file__ = '/usr/lib/python3/dist-packages/numpy/__init__.py'
    sys.modules['numpy'] = fake
    """
    python(session, loads)
    with pytest.raises(psycopg.Error) as found:
        session.execute("SELECT embed_drain()")
    assert (found.value.sqlstate == "55000") is not enough  # what is no numpy at all fails otherwise
    if not enough:
        assert "/usr/lib/python3/dist-packages/numpy" in str(found.value)
        assert "Reconnect" in found.value.diag.message_hint
    assert connect().execute("SELECT embed_drain()").fetchone()[0] > 0


def test_numpy_is_one_for_all_also_before_ours_was_needed(connect, pipelines, python):
    session = connect()
    session.execute("SELECT embed_setting('lease')")
    theirs = python(session, "import numpy; return id(numpy)")
    assert session.execute("SELECT embed_drain()").fetchone()[0] > 0
    assert python(session, "return id(sys.modules['numpy'])") == theirs
