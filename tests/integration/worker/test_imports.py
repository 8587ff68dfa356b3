"""A worker started by pg_cron is a new session each minute: with nothing to do, it imports little."""

import pytest

from tests.fixtures.pipelines.documents import drain_all

# Each takes a new session 7 to 65 ms, and all of them nearly double its first call.
HEAVY = {"numpy", "orjson", "markdown_it", "html.parser", "importlib.metadata", "requests", "urllib3", "ssl"}
MOST = 170  # modules that are not ours

IMPORTED = """
CREATE FUNCTION imported() RETURNS text[] LANGUAGE plpython3u AS $$
    import sys
    from evergreen.core import isolation
    return sorted({*sys.modules, *isolation._state.modules})
$$
"""


@pytest.mark.parametrize(
    ("call", "module"),
    [
        ("SELECT embed_drain()", "evergreen.worker.drain"),
        ("CALL embed_work(until_empty => true)", "evergreen.worker.loop"),
    ],
)
def test_a_session_with_nothing_to_do_imports_no_heavy_package(connect, db, docs, call, module):
    db.execute("SELECT embed_model_add('h8', 'hash', 8)")
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title}', model => 'h8')")
    drain_all(db)
    db.execute(IMPORTED)
    session = connect()
    session.execute(call)
    modules = session.execute("SELECT imported()").fetchone()[0]
    assert module in modules
    assert not HEAVY & {*modules}
    assert len([name for name in modules if name.partition(".")[0] != "evergreen"]) <= MOST
