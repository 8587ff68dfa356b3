"""The CONTEXT of an error that a user caused names the function that was called, and no frame of the library."""

import psycopg
import pytest

pytestmark = pytest.mark.shared_database

FUNCTIONS = {
    "embed_create": "SELECT embed_create('docs', 'docs', columns => '{titel}')",
    "embed_search": "SELECT * FROM embed_search('nothing', 'a question')",
    "embed_pause": "SELECT embed_pause('nothing')",
    "embed_chunk_text": "SELECT embed_chunk_text(size => -1)",
    "embed_work": "CALL embed_work('nothing')",
    "embed_elevate": "SELECT embed_elevate()",
}
LINES = 4  # lines: the title, the function, its source line, and the function's name as PL/Python adds it
BREAK = "import sys; sys.modules['evergreen.pipelines.definition'].embed_get_def = lambda pipeline: 1 / 0"


def context(db, call: str) -> list[str]:
    with pytest.raises(psycopg.Error) as caught:
        db.execute(call)
    return str(caught.value.diag.context).splitlines()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_error_shows_no_frame_of_the_library(db, docs, function):
    lines = context(db, FUNCTIONS[function])
    assert [line for line in lines if f'"{function}"' not in line] == [
        "Traceback (most recent call last):",
        "    raise _error.with_traceback(None) from None",
    ]
    assert lines[-1].endswith(f' "{function}"')
    assert len(lines) == LINES


@pytest.mark.slow
def test_a_timeout_shows_no_frame_of_the_library(db, docs):
    db.execute("SELECT embed_create('docs', 'docs', columns => '{body}', model => 'wordllama-64')")
    db.execute("SET statement_timeout = '500ms'")
    assert len(context(db, "SELECT embed_wait('docs', timeout => '1 min')")) <= LINES


def test_a_fault_of_the_library_keeps_its_traceback(db):
    context(db, "SELECT embed_get_def('docs')")  # loads the module
    db.execute(f"DO LANGUAGE plpython3u $${BREAK}$$")
    lines = context(db, "SELECT embed_get_def('docs')")
    assert [line for line in lines if "in <lambda>" in line], lines
