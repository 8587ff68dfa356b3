"""What a person does on the page, done by a real browser."""

import psycopg
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.fixtures.pipelines.documents import drain_all, status_of
from tests.fixtures.roles import hash_model
from tests.fixtures.waiting import Background, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.shared_database]

AXE = Axe()
VIEWS, OTHER_VIEWS = ((1280, "light"), (390, "dark")), ((1280, "dark"), (390, "light"))
WORK = "CALL embed_work(until_empty => true, max_runtime => '30 s')"


@pytest.fixture
def pipeline(db, docs, provider):
    provider.register(db)
    db.execute("SELECT embed_create('docs', 'docs', columns => '{title,body}', model => 'loop')")
    drain_all(db)


@pytest.fixture
def shown(serve, pipeline, page):
    """The page of ``docs``, in a tab."""
    served = serve()
    page.goto(f"{served.url}/pipeline?name=docs")
    return served


def said(page):
    return page.locator("#said")


def test_a_backlog_falls_while_one_watches(shown, page, db, connect, provider):
    db.execute("INSERT INTO docs SELECT i, 'new', 'text ' || i FROM generate_series(1001, 1030) i")
    expect(page.locator("#waiting")).to_have_text("30")
    provider.hold()
    work = Background(connect(), WORK)
    provider.wait_for_requests()
    expect(page.locator("#waiting")).not_to_have_text("30")
    provider.release()
    work.result()
    expect(page.locator("#waiting")).to_have_text("0")
    chart = page.get_by_role("img", name="Backlog in rows")
    wait_until(lambda: "highest 30" in chart.get_attribute("aria-label"))
    shown.site.poller.refresh()
    page.reload()
    assert "highest 30" in chart.get_attribute("aria-label"), "history survives a reload"


def test_search_and_a_rows_story(shown, page, db):
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 3")
    page.fill("#q", "title 3")
    page.keyboard.press("Enter")
    for mode in ("vector", "keyword", "hybrid"):
        expect(page.get_by_role("heading", name=mode)).to_be_visible()
    hit = page.locator("#found li", has_text="[3]").first
    expect(hit).to_contain_text("stale")
    hit.get_by_role("link", name="[3]").click()
    expect(page.locator("#story pre")).to_contain_text("change log: 1 change since")
    page.fill("#key", "nonsense")
    page.click("#explain")
    expect(page.locator("#story")).to_contain_text("invalid input syntax for type json")


def test_read_a_dead_letter_and_retry_it(shown, page, db, provider):
    provider.answer = lambda texts: (400, b"I do not like it") if any("bad" in text for text in texts) else None
    db.execute("UPDATE docs SET body = 'bad' WHERE id IN (3, 4)")
    drain_all(db)
    letters = page.locator("section", has=page.get_by_role("heading", name="Dead letters"))
    expect(letters.get_by_role("row", name="[3]")).to_contain_text("I do not like it")
    provider.answer = None
    letters.get_by_role("row", name="[3]").get_by_role("button", name="Retry").click()
    expect(said(page)).to_have_text("1 row queued again")
    drain_all(db)
    expect(letters.get_by_role("row", name="[3]")).to_have_count(0)
    assert status_of(db, "failed") == 1
    page.get_by_role("button", name="Retry all").click()
    expect(said(page)).to_have_text("1 row queued again")
    drain_all(db)
    expect(letters).to_contain_text("None.")


def test_build_compare_promote_and_roll_back(shown, page, db):
    hash_model(db)
    shown.site.poller.refresh()
    page.reload()
    page.select_option("#model", "hash8")
    page.click("#build")
    expect(said(page)).to_contain_text("is being built; searches use the active one")
    page.click("#promote")
    expect(said(page)).to_contain_text("covers 0 of 10 rows")
    drain_all(db)
    page.click("#compare")
    expect(page.locator("#compared")).to_contain_text("sample rows")
    page.fill("#q", "title 3")
    page.click("#ask")
    expect(page.get_by_role("heading", name="generation being built")).to_contain_text("overlap with the active one")
    page.click("#promote")
    expect(said(page)).to_contain_text("docs uses the new generation")
    assert db.execute("SELECT model FROM embed_pipelines").fetchone() == ("hash8",)
    page.get_by_role("button", name="Roll back to generation").click()
    expect(said(page)).to_contain_text("previous generation again")
    assert db.execute("SELECT model FROM embed_pipelines").fetchone() == ("loop",)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert status_of(db, "state") == "paused"


def test_a_lost_database_comes_back(shown, page, db, cluster):
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'evergreen dashboard%'"
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {db.info.dbname} ALLOW_CONNECTIONS false")
        try:
            admin.execute(end)
            expect(page.get_by_role("alert")).to_contain_text("The database does not answer since")
            expect(page.locator("#waiting")).to_have_text("0")
            page.click("#draw")
            expect(page.locator("#map")).to_contain_text("not currently accepting connections")
        finally:
            admin.execute(f"ALTER DATABASE {db.info.dbname} ALLOW_CONNECTIONS true")
        expect(page.get_by_text("The database does not answer")).to_have_count(0)
        admin.execute(end)
        page.click("#draw")
        expect(page.locator("#map")).to_contain_text("10 chunks")


def test_a_lost_server_is_told_of(shown, page):
    expect(page.locator("#offline")).to_be_hidden()
    shown.server.should_exit = True
    expect(page.locator("#offline")).to_be_visible()


def test_what_one_types_stays_while_figures_change(shown, page, db):
    page.select_option("#model", "loop")
    page.focus("#build")
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 3")
    expect(page.locator("#waiting")).to_have_text("1")
    assert page.input_value("#model") == "loop"
    assert page.evaluate("document.activeElement.id") == "build"


def test_a_map_is_read_by_pointer_and_by_keyboard(shown, page, db):
    db.execute("UPDATE docs SET body = 'edited' WHERE id = 3")
    page.click("#draw")
    page.locator("#points circle[data-key='[3]']").hover(force=True)
    expect(page.locator("#pointed")).to_contain_text("[3] (stale)")
    expect(page.locator("#pointed")).to_contain_text("title 3")
    page.focus("#points")
    seen = set()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
        seen.add(page.locator("#pointed b").text_content())
    assert len(seen) == 10


def test_the_keyboard_reaches_everything(shown, page, db):
    reachable = "[...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, [tabindex=\"0\"]')]"
    page.click("#draw")
    expect(page.locator("#points")).to_be_visible()
    page.evaluate("document.activeElement.blur()")
    wanted = page.evaluate(f"{reachable}.length")
    reached = set()
    for _ in range(wanted + 2):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('href')"))
    every = set(page.evaluate(f"{reachable}.map((one) => one.id || one.getAttribute('href'))"))
    assert every <= reached


@pytest.mark.parametrize("views", [VIEWS, pytest.param(OTHER_VIEWS, marks=pytest.mark.stress)])
def test_nothing_is_hard_to_read(shown, page, db, provider, views):
    """axe finds nothing; nothing is cut off at the width of a phone."""
    provider.answer = lambda texts: (400, b"I do not like it") if any("bad" in text for text in texts) else None
    db.execute("UPDATE docs SET body = 'bad' WHERE id IN (3, 4)")
    drain_all(db)
    hash_model(db)
    db.execute("SELECT embed_build('docs', model => 'hash8')")
    drain_all(db)
    shown.site.poller.refresh()
    page.reload()
    page.fill("#q", "title 3")
    page.click("#ask")
    page.locator("#found a").first.click()
    page.click("#draw")
    page.click("#compare")
    for wanted in ("#story pre", "#points", "#compared table", "#retry-all"):
        expect(page.locator(wanted)).to_be_visible()
    _assert_readable(page, views)
    page.goto(shown.url)
    expect(page.get_by_role("link", name="docs")).to_be_visible()
    _assert_readable(page, views)


def _assert_readable(page, views=VIEWS):
    for width, scheme in views:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        found = AXE.run(page)
        assert found.violations_count == 0, found.generate_report()


def test_log_in(serve, pipeline, page, tmp_path):
    path = tmp_path / "token"
    path.write_text("a-token-of-the-tests-0123456789")
    path.chmod(0o600)
    served = serve(token_file=path)
    page.goto(served.url)
    page.fill("#given", "wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This is not the token.")
    _assert_readable(page)
    page.fill("#given", path.read_text())
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="docs")).to_be_visible()
    assert page.evaluate("document.cookie") == ""


def test_without_script_links_and_forms_work(serve, pipeline, browser):
    served = serve()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(served.url)
    page.get_by_role("link", name="docs").click()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("docs is paused")).to_be_visible()
    page.get_by_role("link", name="Back to docs").click()
    page.fill("#q", "title 3")
    page.click("#ask")
    expect(page.get_by_role("heading", name="vector")).to_be_visible()
    context.close()
