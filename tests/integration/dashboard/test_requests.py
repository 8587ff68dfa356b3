"""What the page refuses, hides and escapes, request by request."""

import json
import re

import pytest

from evergreen_host.dashboard import security
from evergreen_host.errors import EvergreenError
from tests.fixtures.pipelines.documents import drain_all, status_of
from tests.fixtures.pipelines.endpoints import create
from tests.fixtures.roles import hash_model, people
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.shared_database

TOKEN = "a-token-of-the-tests-0123456789"
HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}{% raw %}%s"


@pytest.fixture
def pipeline(db, docs):
    hash_model(db)
    create(db, model="hash8")
    drain_all(db)


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return path


def state(db):
    return status_of(db, "state")


def test_another_host_name_is_refused(serve, pipeline):
    """As after DNS rebinding, when a name of another site leads here."""
    served = serve(hosts=("dash.example.com",))
    for host in ("evil.example", "evil.example:9188", "127.0.0.1.evil.example", "localhost.evil", "[", "example.com"):
        assert served.ask("/", Host=host).status == 421
        assert served.ask("/static/page.js", Host=host).status == 421
    for host in ("localhost:1234", "127.0.0.1", "[::1]:9188", "dash.example.com", "DASH.example.com:443"):
        assert served.ask("/", Host=host).status == 200, host


def test_a_form_of_another_site_is_refused(serve, pipeline, db):
    served = serve()
    form = {"token": served.site.guard.form_token(), "name": "docs"}
    for origin in ("", "null", "http://evil.example", "http://127.0.0.1:1", "http://localhost", "file://127.0.0.1"):
        assert served.ask("/act/pause", form, Origin=origin).status == 403
    assert state(db) == "active"


def test_a_form_needs_the_token_of_a_page(serve, pipeline, db):
    served = serve()
    for token in ("", "wrong", served.site.guard.session()):
        assert served.ask("/act/pause", {"token": token, "name": "docs"}).status == 403
    assert served.ask("/act/pause", {"name": "docs"}).status == 403
    assert served.ask("/act/pause?name=docs").status == 405
    assert state(db) == "active"
    token = re.search(r'name="token" value="(\w+)"', served.ask("/pipeline?name=docs").text)[1]
    assert served.ask("/act/pause", {"token": token, "name": "docs"}).status == 200
    assert state(db) == "paused"


def test_a_proxy_may_have_another_name(serve, pipeline, db):
    served = serve(hosts=("dash.example.com",))
    form = {"token": served.site.guard.form_token(), "name": "docs"}
    assert served.ask("/act/pause", form, Origin="https://dash.example.com").status == 200
    assert state(db) == "paused"


def test_another_site_cannot_make_it_ask(serve, pipeline):
    """An image or a link there would spend the money of searches."""
    served = serve()
    for path in ("/pipeline/search?name=docs&q=title", "/pipeline/map?name=docs", "/live"):
        for site in ("cross-site", "same-site"):
            assert served.ask(path, Sec_Fetch_Site=site).status == 403
        assert served.ask(path, Sec_Fetch_Site="same-origin").status == 200


def test_a_long_form_is_refused(serve, pipeline):
    served = serve()
    assert served.act("pause", key="x" * 70_000).status == 413


def test_headers_of_every_answer(serve, pipeline, token_file):
    served = serve()
    for path in ("/", "/pipeline?name=docs", "/live", "/nowhere", "/static/page.js"):
        headers = {name.lower(): value for name, value in served.ask(path).headers.items()}
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert ("no-store" in headers.get("cache-control", "")) != path.startswith("/static/")
    text = served.ask("/").text + served.ask("/pipeline?name=docs").text
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=|https?://", text)


def test_with_a_token_nothing_is_shown_without_it(serve, pipeline, token_file, db):
    served = serve(token_file=token_file)
    for path in ("/", "/live", "/pipeline?name=docs", "/pipeline/search?name=docs&q=title", "/nowhere"):
        answer = served.ask(path)
        assert (answer.status, answer.headers["location"]) == (303, "/login")
    assert served.act("pause").status == 401
    assert served.ask("/static/style.css").status == 200
    assert served.ask("/login").status == 200
    assert served.ask("/login", {"given": "wrong"}).status == 403
    answer = served.ask("/login", {"given": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert answer.status == 303
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    mine = cookie.split(";")[0]
    assert served.ask("/", Cookie=mine).status == 200
    assert served.ask("/", Cookie=f"{mine[:-1]}!").status == 303
    assert state(db) == "active"


def test_a_session_ends_with_the_process(serve, pipeline, token_file):
    one, other = serve(token_file=token_file), serve(token_file=token_file)
    cookie = one.ask("/login", {"given": TOKEN}).headers["set-cookie"].split(";")[0]
    assert (one.ask("/", Cookie=cookie).status, other.ask("/", Cookie=cookie).status) == (200, 303)


def test_token_files_that_are_no_secret(tmp_path):
    path = tmp_path / "token"
    with pytest.raises(EvergreenError, match="cannot be read"):
        security.read_token(path)
    path.write_text(TOKEN)
    path.chmod(0o644)
    with pytest.raises(EvergreenError, match="can be read by others"):
        security.read_token(path)
    path.chmod(0o600)
    assert security.read_token(path) == TOKEN
    path.write_text("short")
    with pytest.raises(EvergreenError, match="shorter than 16"):
        security.read_token(path)


def test_read_only_refuses_and_hides_actions(serve, pipeline, db):
    served = serve(read_only=True)
    for action in ("pause", "retry", "build", "promote", "rollback", "retire"):
        assert served.act(action).status == 403
    text = served.ask("/pipeline?name=docs").text
    assert 'method="post"' not in text
    assert "read-only" in text
    assert served.ask("/pipeline/search?name=docs&q=title").status == 200
    for link in (served.site.asking, served.site.acting):
        shown = link.run(lambda database: database.rows("SHOW default_transaction_read_only"))
        assert shown == [{"default_transaction_read_only": "on"}]
        with pytest.raises(EvergreenError, match="read-only transaction"):
            link.run(lambda database: database.rows("SELECT {schema}.embed_pause('docs')"))


def test_the_poller_only_reads(serve, pipeline):
    served = serve()
    with pytest.raises(EvergreenError, match="read-only transaction"):
        served.site.poller._link.run(lambda database: database.rows("SELECT {schema}.embed_pause('docs')"))


def test_hostile_names_texts_and_errors_are_escaped(serve, db, docs, provider):
    provider.register(db, "<i>loop")
    db.execute("UPDATE docs SET title = %s, body = %s WHERE id = 1", (HOSTILE, HOSTILE))
    name = "<b>&\"'/?#{{x}}%s"
    db.execute(
        "SELECT embed_create(%s, 'docs', columns => '{title,body}', model => '<i>loop', view_name => 'hostile')",
        (name,),
    )
    provider.answer = lambda texts: (400, HOSTILE.encode()) if any("title 2" in text for text in texts) else None
    drain_all(db)
    served = serve()
    quoted = served.site.pages._templates.globals["link"]("/pipeline", name=name)
    page = wait_until(lambda: (text := served.ask(quoted).text).count("answered 400") and text)
    overview = served.ask("/").text
    search = served.ask(quoted.replace("?", "/search?") + "&q=alert").text
    story = served.ask(quoted.replace("?", "/story?") + "&key=%5B1%5D").text
    drawn = served.ask(quoted.replace("?", "/map?")).text
    for text in (page, overview, search, story, drawn):
        assert "<script>alert" not in text
        assert "<b>&" not in text
        assert "<i>loop" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in search
    assert "{{7*7}}{% raw %}%s" in search
    assert "answered 400" in page
    assert "<h1>&lt;b&gt;" in page
    wrong = served.ask("/pipeline?name=%3Cscript%3E")
    assert (wrong.status, "<script>" in wrong.text) == (404, False)


def test_an_action_says_what_the_database_says(serve, pipeline):
    served = serve()
    answer = served.act("promote")
    assert answer.status == 422
    assert "has no generation that is being built" in answer.text
    answer = served.act("pause", "nope <b>")
    assert answer.status == 422
    assert "&lt;b&gt;" in answer.text
    assert served.act("promote", min_coverage="x").status == 422
    assert served.act("drop").status == 404


def test_only_what_the_role_may_see(serve, pipeline, db):
    """Rows are hidden by row security, and buttons do what the role may do."""
    people(db)
    db.execute("GRANT SELECT ON docs TO bob")
    db.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    db.execute("CREATE POLICY few ON docs FOR SELECT TO bob USING (id < 5)")
    served = serve("bob")
    overview = served.ask("/").text
    assert "permission denied" in overview or "not a member of embed_admin" in overview
    found = served.ask("/pipeline/search?name=docs&q=title&k=50").text
    assert {int(key) for key in re.findall(r">\[(\d+)\]<", found)} == {1, 2, 3, 4}
    assert "title 7" not in found
    drawn = served.ask("/pipeline/map?name=docs").text
    assert set(re.findall(r'data-key="\[(\d+)\]"', drawn)) <= {"1", "2", "3", "4"}
    assert "owner" in served.act("pause").text
    assert "owner" in served.ask("/pipeline/story?name=docs&key=%5B1%5D").text
    assert state(db) == "active"


def test_a_role_that_sees_nothing(serve, pipeline, db):
    people(db)
    served = serve("bob")
    assert "No pipelines" in served.ask("/").text
    assert served.ask("/pipeline?name=docs").status == 404


def test_live_parts_are_sent_once(serve, pipeline):
    served = serve()
    first = served.ask("/live")
    assert served.ask("/live", If_None_Match=first.headers["etag"]).status in {200, 304}
    number = json.loads(first.headers["etag"])
    assert served.ask("/live", If_None_Match=f'"{served.site.poller.state().number}"').status == 304
    assert int(number) >= 1
