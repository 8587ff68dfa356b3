"""The README's API section is what COMMENT ON says.

``REGENERATE=1 pytest tests/docs/test_api_section.py`` rewrites it, for ``git diff`` to show.
"""

import difflib
import os
import re

import pytest

from tests.docs import reference
from tests.docs.pages import PAGES, README

MARKED = re.compile(r"(?<=<!-- api: begin -->\n).*?(?=<!-- api: end -->)", re.DOTALL)


@pytest.fixture
def generated(reader):
    return "\n" + reference.as_markdown(reader) + "\n"


def test_the_section_is_what_the_comments_say(generated):
    page = README.read_text("utf-8")
    if os.environ.get("REGENERATE"):
        README.write_text(MARKED.sub(lambda _: generated, page), "utf-8")
    (shown,) = MARKED.findall(README.read_text("utf-8"))
    changes = [
        *difflib.unified_diff(shown.splitlines(), generated.splitlines(), "README.md", "COMMENT ON", lineterm="", n=0)
    ]
    if changes:
        pytest.fail("\n".join([*changes, "", (__doc__ or "").strip().splitlines()[-1]]), pytrace=False)


def test_what_the_pages_name_is_there(reader):
    """Functions, views, roles and schemas, in sentences and tables, too."""
    named = {name for page in PAGES for name in re.findall(r"\bembed_[a-z_]+", page.read_text("utf-8"))}
    there = """
        SELECT proname::text FROM pg_proc UNION SELECT relname FROM pg_class
        UNION SELECT rolname FROM pg_roles UNION SELECT nspname FROM pg_namespace
    """
    assert named - {name for (name,) in reader.execute(there)} == set()
