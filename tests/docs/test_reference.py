"""docs/reference is what `make reference` generates, and other pages name only what is in a database."""

import difflib
import re

import psycopg
import pytest

from tests.docs.pages import PAGES, blocks
from tools.paths import DOCS
from tools.reference import cures, errors, log_events, pages


@pytest.fixture(scope="module")
def made(module_environment):
    env = module_environment
    place = {"host": env["PGHOST"], "port": env["PGPORT"], "dbname": env["PGDATABASE"], "user": env["PGUSER"]}
    with psycopg.connect(**place, autocommit=True) as session:
        session.execute(pages.PREPARE)
        return pages.render(session)


def test_pages_are_as_generated(made):
    changes = []
    for name, text in made.items():
        shown = (pages.committed(name) or "").splitlines()
        changes += difflib.unified_diff(shown, text.splitlines(), name, "generated", lineterm="", n=0)
    if changes:
        pytest.fail("\n".join([*changes, "", "make reference rewrites the pages."]), pytrace=False)


def test_every_page_is_generated(made):
    assert {page.name for page in (DOCS / "reference").glob("*.md")} == {*made, "index.md", "glossary.md"}


def test_a_message_without_a_cure_is_an_error():
    with pytest.raises(errors.NoCureError):
        list(errors._message("something is wrong with …", None))


def test_every_cure_is_of_a_message_in_the_code():
    kinds = (errors.of_calls, errors.of_models, errors.warnings, errors.of_commands, errors.of_doctor)
    assert cures.CURES.keys() - {message.text for messages in kinds for message in messages()} == set()


def test_every_meaning_is_of_an_event_in_the_code():
    assert log_events.MEANINGS.keys() == log_events.events().keys()


#: An argument or a method of a Python library, which may begin as ours do.
THEIRS = re.compile(r"\b(?:def )?(embed_\w+)(?=\(self|=[^=>])")


def names(page):
    text = page.read_text("utf-8")
    theirs = {name for block in blocks(page, "python") for name in THEIRS.findall(block.code)}
    return set(re.findall(r"\bembed_[a-z_]+", text)) - theirs


def test_what_the_pages_name_is_there(reader):
    """Functions, views, roles and schemas, in sentences and tables, too."""
    named = {name for page in PAGES for name in names(page)}
    there = """
        SELECT proname::text FROM pg_proc UNION SELECT relname FROM pg_class
        UNION SELECT rolname FROM pg_roles UNION SELECT nspname FROM pg_namespace
    """
    assert named - {name for (name,) in reader.execute(there)} == set()
