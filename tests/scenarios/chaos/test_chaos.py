"""Chaos: writers, workers of all kinds, a provider in bad weather and a reaper; in the end all is as it must be.

``--chaos-seed`` plays the same histories, kills and faults again (sessions interleave as they like);
``--chaos-seconds`` says for how long. ``make chaos`` is twenty minutes of it.
"""

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evergreen_host.cluster import Cluster
from tests.fixtures.providers.loopback import LoopbackProvider
from tests.fixtures.waiting import wait_until
from tests.scenarios.chaos.aftermath import faults, settle
from tests.scenarios.chaos.faultyprovider import Weather
from tests.scenarios.chaos.reaper import LONGEST_STOP
from tests.scenarios.chaos.story import Cast, Report, Stage, play, summary
from tests.scenarios.chaos.turner import MODELS, Turner
from tests.scenarios.chaos.workers import KINDS, MAY_TIME_OUT

KILLED = {"57P01", "57P02", "57P03", "57014"}
BOUND = 0.05  # seconds that a worker may cost a writer
KILL_BOUND = LONGEST_STOP + 1.0  # where a worker was stopped that was reading a table which is to be truncated
SHARE_OF_FAULTS = 0.12
WORK = "CALL embed_work(max_runtime => '2 s')"
# What is retired is gone, and paid for once more when it is built again.
FRUGAL = tuple(kind for kind in KINDS if kind != "change")


@pytest.fixture(scope="module")
def doomed() -> Iterator[Cluster]:
    """A server of this file's own."""
    with Cluster(options={"wal_level": "logical"}) as made:
        yield made


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """The seed, printed."""
    given = request.config.getoption("--chaos-seed") or str(random.SystemRandom().randrange(1_000_000))
    print(f"--chaos-seed {given}")
    return given


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print to the terminal, whatever is captured: what was done is worth knowing when all is well, too."""
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")

    def write(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{text}", flush=True)

    return write


def _assert_nothing_was_lost(report: Report, *, bound: float, killed: bool, turned: bool = False) -> None:
    """Writers got no error and no wait from workers, readers saw nothing false, workers failed only when killed.

    Where models ``turned``, readers saw their vectors until the watch noticed.
    """
    allowed = KILLED if killed else set()
    assert [one for one in report.refused if not one.is_the_writers_own() and one.state not in allowed] == []
    unexpected = [f"{k}: {e.sqlstate} {e}" for k, e in report.worker_errors if e.sqlstate not in allowed | _time_out(k)]
    assert not unexpected, "\n\n".join(unexpected)
    cancelled = [f"{k}: {e}" for k, e in report.worker_errors if "statement timeout" in str(e)]
    assert [error for error in cancelled if "embed_work" in error] == []
    assert report.waits is not None
    assert report.waits.on_workers == []
    assert report.waits.longest_behind_workers < bound, report.waits.behind_workers
    if report.reader is not None:
        assert turned or report.reader.wrong == []
        assert [e for e in report.reader.errors if e.sqlstate not in allowed] == []


def _time_out(kind: str) -> set[str]:
    return {"55P03"} if kind in MAY_TIME_OUT else set()


def _assert_all_is_well(stage: Stage, weather: Weather, say: Callable[[str], None]) -> None:
    weather.clear_up()
    with stage.connect("the last drain") as db:
        settled = settle(db)
        say(f"settled after {settled.drains} drains, with {settled.dead_letters} dead letters to try again")
        assert faults(db) == []


def _keep_every_vector(stage: Stage) -> None:
    """A replaced text's vector leaves the cache once it is full, and is paid for again when the text comes back."""
    with stage.connect("the cache's limit") as db:
        db.execute("SELECT embed_setting('cache_limit', '1000000')")


def _crashes(cluster: Cluster) -> list[str]:
    """Lines of the server log that report an unplanned crash."""
    log = cluster.logfile.read_text("utf-8", "replace")
    return re.findall(r".*(?:terminated by signal (?!9\b)\d+|PANIC|TRAP:).*", log)


def test_nothing_is_lost_whatever_happens(doomed, seed, say, request):
    seconds = float(request.config.getoption("--chaos-seconds"))
    with LoopbackProvider() as provider:
        stage = Stage(doomed, provider)
        weather = Weather(provider, seed, share=SHARE_OF_FAULTS)
        report = play(stage, Cast(seed, kinds=tuple(KINDS), seconds=seconds, reaped_every=1.0))
        say(f"--chaos-seed {seed}, {seconds:g} s\n{summary(report, weather)}")
        _assert_nothing_was_lost(report, bound=KILL_BOUND, killed=True)
        _assert_all_is_well(stage, weather, say)
    assert _crashes(doomed) == []


@pytest.mark.stress
def test_no_vector_of_another_model_is_left_when_models_come_and_go(doomed, seed, say, request):
    seconds = float(request.config.getoption("--chaos-seconds"))
    with LoopbackProvider() as provider:
        stage = Stage(doomed, provider)
        with stage.connect("the watch") as db:
            for model in MODELS:
                db.execute('SELECT embed_model_set(%s, \'{"watch": "300 ms"}\')', (model,))
            references = "SELECT count(*) FROM embed.model_reference"
            wait_until(lambda: db.execute(WORK) and db.execute(references).fetchone() == (12,))
        turner, weather = Turner(provider, stage.connect, seed), Weather(provider, seed, share=0.05)
        report = play(stage, Cast(seed, kinds=FRUGAL, seconds=seconds, reaped_every=3.0))
        weather.clear_up()
        turner.stop()
        wait_until(lambda: _work(stage) or turner.is_noticed(), timeout=120, what="looks at the other models")
        turner.return_to_normal()
        wait_until(lambda: _work(stage) or _is_as_before(stage), timeout=120, what="work with the models of before")
        say(f"--chaos-seed {seed}, {seconds:g} s, {turner.turns} turns\n{summary(report, weather)}")
        _assert_nothing_was_lost(report, bound=KILL_BOUND, killed=True, turned=True)
        _assert_all_is_well(stage, weather, say)
        assert turner.turns
    assert _crashes(doomed) == []


def _work(stage: Stage) -> None:
    with stage.connect("the watch") as db:
        db.execute(WORK)


def _is_as_before(stage: Stage) -> bool:
    with stage.connect("the watch") as db:
        states = {state for (state,) in db.execute("SELECT state FROM embed_status").fetchall()}
        served = db.execute(
            "SELECT revision, settled FROM embed_models WHERE model = ANY (%s)", ([*MODELS],)
        ).fetchall()
        return "model changed" not in states and set(served) == {(1, True)}


@pytest.mark.stress
@pytest.mark.parametrize("apart", [False, True], ids=["sharing rows", "apart"])
def test_writers_wait_no_longer_than_without_evergreen(doomed, seed, say, apart):
    transactions = 400
    with LoopbackProvider() as provider:
        bare = play(Stage(doomed, provider, bare=True), Cast(seed, transactions=transactions, kinds=(), apart=apart))
        stage = Stage(doomed, provider)
        _keep_every_vector(stage)
        weather = Weather(provider, seed, share=SHARE_OF_FAULTS)
        report = play(stage, Cast(seed, transactions=transactions, kinds=FRUGAL, apart=apart))
        say(f"--chaos-seed {seed}\nwithout evergreen:\n{summary(bare, None)}\nwith it:\n{summary(report, weather)}")
        _assert_nothing_was_lost(report, bound=BOUND, killed=False)
        assert weather.again == 0
        _assert_all_is_well(stage, weather, say)
    if apart:  # where writers wait for each other the longest wait is chance: there it is the cause that is looked at
        assert bare.waits is not None
        assert report.waits is not None
        assert report.waits.longest < bare.waits.longest + BOUND
