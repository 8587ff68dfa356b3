"""Every privilege on every object, as a list to read: a change of it is a change of who may do what.

``REGENERATE=1 pytest tests/integration/security/test_privileges_snapshot.py`` rewrites it, for ``git diff`` to show.
"""

import difflib
import os
from pathlib import Path

import pytest

from tests.fixtures.roles import people

HERE = Path(__file__).parent
LIST = HERE / "privileges.txt"

SETUP = """
CREATE TABLE alice.docs (id int PRIMARY KEY, body text);
CREATE FUNCTION alice.model(text[]) RETURNS vector[] LANGUAGE sql AS 'SELECT NULL::vector[]';
GRANT SELECT ON alice.docs TO bob;
"""


def make(db, alice):
    """Alice has a pipeline with a budget, by a model on an endpoint, and one by a function of hers; bob reads hers."""
    alice.execute(SETUP)
    db.execute("SELECT embed_endpoint_set('here', 'http://127.0.0.1:1/v1')")
    db.execute("SELECT embed_model_add('served', 'openai', 8, endpoint => 'here')")
    db.execute("SELECT embed_model_add('hers', 'function', 8, 'alice.model')")
    for number, model in enumerate(("served", "hers"), 1):
        (db if model == "served" else alice).execute(
            "SELECT embed_create(%s, 'alice.docs', '{body}', model => %s, options => '{\"daily_tokens\": 9}')",
            (f"p{number}", model),
        )


def look(db):
    """Every privilege as it is now."""
    db.execute("SET search_path = pg_catalog")
    found = db.execute((HERE / "privileges.sql").read_text(encoding="utf-8"))
    return sorted(" ".join(line.split()) for (line,) in found)


@pytest.fixture
def lines(db, connect):
    """The list of a database in which everything was made."""
    people(db)
    make(db, connect("alice"))
    return look(db)


def test_every_privilege_is_as_it_was_thought_over(lines):
    if os.environ.get("REGENERATE"):
        LIST.write_text("\n".join(lines) + "\n", encoding="utf-8")
    expected = LIST.read_text(encoding="utf-8").splitlines()
    changes = [*difflib.unified_diff(expected, lines, "privileges.txt", "now", lineterm="", n=0)]
    if changes:
        pytest.fail("\n".join([*changes, "", (__doc__ or "").strip().splitlines()[-1]]), pytrace=False)
