"""The demo's acts, in order: set up, search, a day of changes, and changes that nobody looks after."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evergreen_host.demo.corpus import Corpus
from evergreen_host.demo.screen import Screen
from evergreen_host.demo.session import Session
from evergreen_host.errors import EvergreenError

_SHOWN_QUESTIONS = 3  # put on screen; the others are for the tests
_TIMEOUT = 130.0  # seconds: pg_cron starts a job at a full minute


@dataclass(frozen=True)
class Step:
    """Something that happens to the table: what a user calls it, and the statements it takes."""

    what: str
    statements: Sequence[str]


class StepCost(NamedTuple):
    """What a step came to: rows written, rows an any-column trigger would have sent, texts that were sent."""

    written: int
    by_trigger: int
    sent: int


DAY = (
    Step("texts edited", ["edit"]),
    Step("a counter updated in every row", ["count_downloads"]),
    Step("forms saved as they were opened", ["save_unchanged"]),
    Step("titles edited, then edited back", ["draft", "undraft"]),
    Step("rows deleted", ["delete"]),
)


def drain_until_empty(session: Session) -> None:
    """Drain until nothing is queued or being worked on, by us or by anybody else."""
    deadline = time.monotonic() + _TIMEOUT
    while session.value("drain") or session.value("open_work"):
        if time.monotonic() > deadline:
            raise EvergreenError("the queue does not become empty")


def set_up(session: Session, screen: Screen, corpus: Corpus) -> None:
    """Acts 1 and 2: a table with documents, and a pipeline over it."""
    screen.heading("A table", f"{len(corpus.documents):,} {corpus.what}, in a table like any other.")
    session.do("create_extension")
    session.do("create_table")
    session.load(corpus.documents)
    screen.heading("One call", "says what the embedding is made of. Triggers watch the table from now on.")
    session.value("create_pipeline", show=True)


def first_drain(session: Session, screen: Screen) -> None:
    """Act 3: the rows that were there get their vectors."""
    screen.heading("The rows that were there", "get their vectors, from a model that runs inside the server.")
    rows = session.value("count")
    started = time.monotonic()
    done = session.value("drain", show=True)
    with screen.progress("rows", rows) as advance:
        while done:
            advance(done)
            done = session.value("drain")
    seconds = time.monotonic() - started
    screen.text(f"{rows:,} rows in {seconds:.1f} s, {rows / seconds:,.0f} a second.")


def _show_answers(session: Session, screen: Screen, question: str, *, show: bool) -> None:
    screen.table([question, "score"], session.rows("search", question=question, show=show))


def ask(session: Session, screen: Screen, corpus: Corpus) -> None:
    """Act 4: questions that share no word with their answers."""
    screen.heading("Questions", "in plain words; the query is embedded by the same model, inside the query.")
    for number, question in enumerate(list(corpus.questions)[:_SHOWN_QUESTIONS]):
        _show_answers(session, screen, question, show=number == 0)


def _run_step(session: Session, step: Step) -> StepCost:
    """Make one step happen and measure it."""
    since = session.value("now")
    written = [session.do(name) for name in step.statements]
    drain_until_empty(session)
    sent = session.value("embedded_since", since=since)
    return StepCost(sum(written), 0 if step.statements == ["delete"] else max(written), sent)


def measure_day(session: Session) -> list[StepCost]:
    """Make every step of the day happen, each with a drain of its own."""
    return [_run_step(session, step) for step in DAY]


def day_of_changes(session: Session, screen: Screen) -> None:
    """Act 5: changes of every kind, and what they cost."""
    screen.heading("A day of changes", "of every kind. We drain after each, to see what it alone has cost.")
    nightly = session.value("count")
    costs = measure_day(session)
    written, by_trigger, sent = map(sum, zip(*costs, strict=True))
    screen.text("\nTexts sent to the model:\n")
    headers = ["what happened", "rows written", "nightly run", "any-column trigger", "Evergreen"]
    rows = [(step.what, one.written, "", one.by_trigger, one.sent) for step, one in zip(DAY, costs, strict=True)]
    screen.table(headers, rows, ["total", written, nightly, by_trigger, sent])
    screen.text("Evergreen's column is measured: the documents whose embedded_at moved. A nightly run sends every row.")


def undo(session: Session, screen: Screen) -> None:
    """Act 6: former texts are not sent again."""
    screen.heading(
        "Second thoughts", "The edited texts are put back as they were. What will that cost? Ask for one row's story."
    )
    session.do("undo")
    for line in session.value("explain", show=True).splitlines():
        screen.server_output(line)
    drain_until_empty(session)


def _to_minute() -> str:
    return f"waiting ... pg_cron starts the worker at the next full minute, in {60 - time.time() % 60:.0f} s"


def _searchable_after(session: Session, screen: Screen, new: int, text: Callable[[], str]) -> str:
    """Wait, calling nothing, until a row has fresh vectors; return how long that took."""
    started = time.monotonic()
    with screen.waiting(text()) as update:
        while not session.value("is_searchable", id=new):
            if time.monotonic() - started > _TIMEOUT:
                raise EvergreenError("the scheduled worker did not take up the row")
            time.sleep(0.01)
            update(text())
    return f"Searchable after {time.monotonic() - started:.2f} s"


def unattended(session: Session, screen: Screen) -> None:
    """Act 7: a worker inside the server takes over, and a row nobody looks after becomes searchable."""
    screen.heading(
        "One more call", "and a worker inside the server keeps it fresh. We only watch: a row is added, then changed."
    )
    session.do("create_cron")
    session.value("schedule", show=True)
    new = session.value("count") + 1_000_000
    session.do("add", id=new)
    screen.text(f"{_searchable_after(session, screen, new, _to_minute)}, the worker's start included.\n")
    session.do("rename", id=new)
    screen.text(f"{_searchable_after(session, screen, new, lambda: 'waiting ...')}, now that it runs.\n")
    _show_answers(session, screen, "does anything look after stale vectors?", show=False)
