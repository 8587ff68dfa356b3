"""What answers each request."""

from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from evergreen_host.dashboard import actions, asking, security, vector_map
from evergreen_host.dashboard.history import SPANS
from evergreen_host.dashboard.link import Link
from evergreen_host.dashboard.web import Site, form_of, page, refuse
from evergreen_host.database import Database
from evergreen_host.errors import EvergreenError

_STATIC = Path(__file__).parent / "static"
_RESULTS, _MOST_RESULTS = 5, 50
_COMPARED = 10


def _site(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


def _form_token(site: Site) -> str:
    return "" if site.read_only else site.guard.form_token()


def overview(request: Request) -> Response:
    """The first page."""
    site = _site(request)
    return page(site.pages.overview(site.poller.first(3.0), "overview.html", _form_token(site)))


def live_overview(request: Request) -> Response:
    """The figures of the first page, unless the browser has them already."""
    site = _site(request)
    state = site.poller.state()
    return _live(request, state.number, lambda: site.pages.overview(state, "live_overview.html", _form_token(site)))


def _live(request: Request, number: int, make: Callable[[], str], *of: str) -> Response:
    site, tag = _site(request), f'"{number}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    response = page(site.kept.get((request.url.path, *of, number), 10.0, make))
    response.headers["ETag"] = tag
    return response


def _span(request: Request) -> str:
    given = request.query_params.get("span", "")
    return given if given in {span.name for span in SPANS} else SPANS[0].name


def pipeline(request: Request) -> Response:
    """The page of one pipeline."""
    site, name, span = _site(request), request.query_params.get("name", ""), _span(request)
    site.poller.first(3.0)
    state = site.poller.want(name)
    known = state.figures is None or state.figures.of(name) is not None
    text = site.pages.pipeline(state, name, span, "pipeline.html", _form_token(site))
    return page(text, 200 if known else 404)


def live_pipeline(request: Request) -> Response:
    """The figures of one pipeline's page."""
    site, name, span = _site(request), request.query_params.get("name", ""), _span(request)
    state = site.poller.want(name)
    token = _form_token(site)
    return _live(
        request,
        state.number,
        lambda: site.pages.pipeline(state, name, span, "live_pipeline.html", token),
        name,
        span,
    )


def _asked(
    request: Request, template: str, body: Callable[[Database, str], Mapping[str, object]], *, repeat: bool = True
) -> Response:
    """Ask the database for one pipeline and render the answer, or why there is none."""
    site, name = _site(request), request.query_params.get("name", "")
    values: Mapping[str, object] = {}
    problem: EvergreenError | None = None
    try:
        values = site.asking.run(lambda database: body(database, name), repeat=repeat)
    except EvergreenError as error:
        problem = error
    return page(site.pages.render(template, _form_token(site), name=name, problem=problem, **values))


def search(request: Request) -> Response:
    """The hits of a question, in each mode and in the generation that is being built."""
    site, question = _site(request), request.query_params.get("q", "").strip()
    try:
        k = min(_MOST_RESULTS, max(1, int(request.query_params.get("k", _RESULTS))))
    except ValueError:
        k = _RESULTS
    figures = site.poller.state().figures

    def ask(database: Database, name: str) -> Mapping[str, object]:
        building = figures is not None and any(
            one["state"] == "building" for one in figures.slow.of("generations", name)
        )
        found = asking.search(database, name, question, k, has_building=building) if question else []
        return {"question": question, "found": found}

    return _asked(request, "search.html", ask)


def story(request: Request) -> Response:
    """One row's story."""
    key = request.query_params.get("key", "")
    return _asked(
        request, "story.html", lambda database, name: {"key": key, "story": asking.story(database, name, key)}
    )


def compare(request: Request) -> Response:
    """What both generations find, for a sample of rows."""

    def ask(database: Database, name: str) -> Mapping[str, object]:
        rows = asking.compare(database, name, _COMPARED)
        mean = sum(row["overlap"] for row in rows) / len(rows) if rows else None
        return {"rows": rows, "mean": mean, "coverage": asking.coverage(database, name)}

    return _asked(request, "compare.html", ask)


def map_of_vectors(request: Request) -> Response:
    """The map of a pipeline's vectors."""
    return _asked(
        request,
        "map.html",
        lambda database, name: {"map": vector_map.read(database, name), "size": vector_map.SIZE},
    )


async def act(request: Request) -> Response:
    """Run an action, and say what it did."""
    site, form = _site(request), await form_of(request)
    action = actions.ACTIONS.get(request.path_params["action"])
    if action is None or form is None:
        return refuse(404 if action is None else 413, "there is no such action")
    if not site.guard.is_form_token(form.get("token", "")):
        return refuse(403, "this page is out of date; load it again")
    name = form.get("name", "")
    return await run_in_threadpool(_act, site, action, name, form, request.headers.get("accept", ""))


def _act(site: Site, action: actions.Action, name: str, form: Mapping[str, str], accept: str) -> Response:
    done, problem = "", None
    try:
        done = _acting(site.acting, action, name, form)
    except EvergreenError as error:
        problem = error
    site.poller.refresh()
    text = site.pages.render("done.html", name=name, done=done, problem=problem, whole="fragment" not in accept)
    return page(text, 200 if problem is None else 422)


def _acting(link: Link, action: actions.Action, name: str, form: Mapping[str, str]) -> str:
    return link.run(lambda database: actions.run(database, action, name, form), repeat=False)


async def login(request: Request) -> Response:
    """Ask for the token, and give a browser that knows it its cookie."""
    site = _site(request)
    if request.method != "POST":
        return page(site.pages.render("login.html", title="Log in", wrong=False))
    form = await form_of(request)
    if form is None or not site.guard.is_token(form.get("given", "")):
        return page(site.pages.render("login.html", title="Log in", wrong=True), 403)
    response = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    response.set_cookie(
        security.COOKIE, site.guard.session(), httponly=True, samesite="strict", secure=secure, path="/"
    )
    return response


def routes() -> list[BaseRoute]:
    """Return the routes."""
    return [
        Route("/", overview),
        Route("/live", live_overview),
        Route("/pipeline", pipeline),
        Route("/pipeline/live", live_pipeline),
        Route("/pipeline/search", search),
        Route("/pipeline/story", story),
        Route("/pipeline/compare", compare),
        Route("/pipeline/map", map_of_vectors),
        Route("/act/{action}", act, methods=["POST"]),
        Route("/login", login, methods=["GET", "POST"]),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
