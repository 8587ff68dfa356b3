"""Every SQL block of the README and of docs/ runs as written, in order, and prints what the page shows."""

from itertools import pairwise

import pytest

from tests.docs import psql
from tests.docs.pages import PAGES, README, ROOT, blocks, inline, name_of, tutorial

#: Pages whose SQL needs what no SQL makes, and the tests that run it.
ELSEWHERE = {
    "docs/how-to/moving-in.md": "tests/docs/test_moving_in_page.py",
    "docs/how-to/moving-in/pg-vectorize.md": "tests/docs/test_moving_in_page.py",
    "docs/how-to/moving-in/pgedge.md": "tests/docs/test_moving_in_page.py",
    "docs/how-to/moving-in/supabase.md": "tests/docs/test_moving_in_page.py",
    "docs/how-to/uninstall.md": "tests/integration/operate/test_uninstall.py",
    **{
        name_of(page): "tests/docs/test_provider_pages.py"
        for page in PAGES
        if page.parent.name == "providers" and blocks(page, "sql")
    },
}
#: What a reader of the page has besides what the README's tutorial made.
BEFORE = {
    "docs/how-to/bridge.md": (
        "INSERT INTO docs (title, body) SELECT 'Title ' || i, 'Body ' || i FROM generate_series(1, 200) i;"
        " SELECT embed_drain();"
    ),
    "docs/how-to/costs.md": "\n".join(block.code for block in blocks(ROOT / "docs" / "how-to" / "models.md", "sql")),
    "docs/how-to/clients.md": (
        "CREATE TABLE products (id int PRIMARY KEY, name text); INSERT INTO products VALUES (1, 'Pencil');"
    ),
    "docs/how-to/sizing.md": "SELECT embed_setting('index_from', '1'); CALL embed_work(until_empty => true);",
}
#: A tutorial starts in an empty database.
FROM_NOTHING = {README, *(ROOT / "docs" / "tutorials").glob("*.md")}
OPERATE = ROOT / "docs" / "how-to" / "operate.md"
WITH_SQL = [page for page in PAGES if blocks(page, "sql") and name_of(page) not in ELSEWHERE]


def outputs(page):
    """Each text block that comes right after one of SQL, with that."""
    every = blocks(page)
    for asked, said in pairwise(every):
        if (asked.language, said.language) == ("sql", "text") and said.line == asked.end + 2:
            yield asked, said


@pytest.mark.parametrize("page", WITH_SQL, ids=name_of)
def test_statements_run_and_print_what_the_page_says(page, environment, tmp_path):
    before = "" if page in FROM_NOTHING else tutorial() + BEFORE.get(name_of(page), "")
    printed = psql.run(page, before, blocks(page, "sql"), environment(), tmp_path)
    for asked, said in outputs(page):
        assert said.code.strip("\n") in printed[asked], f"{said}: this is printed:\n{printed[asked]}"


def test_what_operate_answers_runs(reader):
    table = "\n".join(line for line in OPERATE.read_text("utf-8").splitlines() if line.startswith("|"))
    answers = inline(table, "SELECT ", "CALL ")
    assert len(answers) > 10
    for answer in answers:
        reader.execute(answer)


@pytest.mark.parametrize("page", ELSEWHERE)
def test_what_is_run_elsewhere_is_run_there(page):
    test = (ROOT / ELSEWHERE[page]).read_text("utf-8")
    assert f'"{page.rpartition("/")[2]}"' in test
