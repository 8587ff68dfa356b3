"""Every SQL block of the README and of docs/ runs as it stands, in order, and prints what the page says it prints."""

import psycopg
import pytest
import psql
from pages import LANGUAGES, PAGES, README, blocks, inline, name_of, section

#: Pages whose SQL needs what is not made by SQL, and the tests that run it.
ELSEWHERE = {"docs/moving-in.md": "tests/host/test_moving_in_page.py"}
#: What a reader of the page has besides the README's table.
BEFORE = {
    "docs/clients.md": "CREATE TABLE products (id int PRIMARY KEY, name text); INSERT INTO products VALUES (1, 'Pencil');",
}
WITH_SQL = [page for page in PAGES if blocks(page, "sql") and name_of(page) not in ELSEWHERE]


def outputs(page):
    """Each text block that comes right after one of SQL, with that."""
    every = blocks(page)
    pairs = zip(every, every[1:], strict=False)
    return [(said, asked) for asked, said in pairs if (asked.language, said.language) == ("sql", "text") and said.line <= asked.end + 2]


@pytest.mark.parametrize("page", WITH_SQL, ids=name_of)
def test_statements_run_and_print_what_the_page_says(page, cluster, environment, five_minutes):
    before = "" if page == README else five_minutes + BEFORE.get(name_of(page), "")
    psql_path = cluster.bin("psql")
    printed = psql.run(psql_path, environment("template1" if page == README else "evergreen_template"), page, blocks(page, "sql"), before)
    for said, asked in outputs(page):
        assert said.code.strip("\n") in printed[asked], f"{said}: this is printed:\n{printed[asked]}"


def test_what_operate_answers_runs(cluster, environment, five_minutes):
    env = environment("template1")
    done = psql.run(cluster.bin("psql"), env, README, blocks(README, "sql")[:1], "")
    assert done
    answers = inline(section(README, "Operate"), "SELECT ", "CALL ")
    assert len(answers) > 10
    with psycopg.connect(host=env["PGHOST"], port=env["PGPORT"], user="postgres", dbname=env["PGDATABASE"], autocommit=True) as db:
        for answer in answers:
            db.execute(answer)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert page.read_text("utf-8").count("```") == 2 * len(blocks(page))


@pytest.mark.parametrize("page", ELSEWHERE)
def test_what_is_run_elsewhere_is_run_there(page):
    test = (README.parent / ELSEWHERE[page]).read_text("utf-8")
    assert f'"{page.rpartition("/")[2]}"' in test
