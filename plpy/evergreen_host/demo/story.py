"""The acts of the demo: set up, search, a day of changes, and a scheduled worker."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evergreen_host.demo.corpus import Corpus
from evergreen_host.demo.screen import Screen
from evergreen_host.demo.session import Session
from evergreen_host.errors import EvergreenError

_SHOWN_QUESTIONS = 3  # the others are for the tests
_TIMEOUT = 130.0  # seconds; pg_cron starts jobs every full minute


@dataclass(frozen=True)
class Step:
    """A change of the table: its description and statements."""

    what: str
    statements: Sequence[str]


class StepCost(NamedTuple):
    """The cost of a step: rows written, rows that a plain trigger would embed, texts embedded."""

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
    """Drain until nothing is queued or claimed by any session."""
    deadline = time.monotonic() + _TIMEOUT
    while session.value("drain") or session.value("open_work"):
        if time.monotonic() > deadline:
            raise EvergreenError("the queue does not drain")


def set_up(session: Session, screen: Screen, corpus: Corpus) -> None:
    """Acts 1 and 2: a table with documents, and a pipeline over it."""
    screen.heading("A table", f"{len(corpus.documents):,} {corpus.what}, in a table like any other.")
    session.do("create_extension")
    session.do("create_table")
    session.load(corpus.documents)
    screen.heading("One call", "defines what is embedded. From now on, triggers watch the table.")
    session.value("create_pipeline", show=True)


def first_drain(session: Session, screen: Screen, corpus: Corpus) -> None:
    """Act 3: existing rows get their vectors; the first ones can be searched at once."""
    screen.heading("Existing rows", "get their vectors from a model that runs inside the server.")
    rows = session.value("count")
    started = time.monotonic()
    done = session.value("drain", show=True)
    seconds = time.monotonic() - started
    screen.text(f"\nThe first {done:,} can be searched now. The same model embeds the question, within the query.\n")
    _show_answers(session, screen, _asked(corpus)[0], show=True)
    started = time.monotonic()
    with screen.progress("rows", rows) as advance:
        while done:
            advance(done)
            done = session.value("drain")
    seconds += time.monotonic() - started
    screen.text(f"{rows:,} rows in {seconds:.1f} s, {rows / seconds:,.0f} per second.")


def _show_answers(session: Session, screen: Screen, question: str, *, show: bool) -> None:
    screen.table([question, "score"], session.rows("search", question=question, show=show))


def _asked(corpus: Corpus) -> list[str]:
    return list(corpus.questions)[:_SHOWN_QUESTIONS]


def ask(session: Session, screen: Screen, corpus: Corpus) -> None:
    """Act 4: questions that share no word with their answers."""
    screen.heading("More questions", "in plain words, to all documents.")
    for question in _asked(corpus)[1:]:
        _show_answers(session, screen, question, show=False)


def _run_step(session: Session, step: Step) -> StepCost:
    """Run one step and measure it."""
    since = session.value("now")
    written = [session.do(name) for name in step.statements]
    drain_until_empty(session)
    sent = session.value("embedded_since", since=since)
    return StepCost(sum(written), 0 if step.statements == ["delete"] else max(written), sent)


def measure_day(session: Session) -> list[StepCost]:
    """Run all steps of the day, with a drain after each."""
    return [_run_step(session, step) for step in DAY]


def day_of_changes(session: Session, screen: Screen) -> None:
    """Act 5: changes of every kind, and their cost."""
    screen.heading("A day of changes", "of every kind, with a drain after each to measure its cost.")
    nightly = session.value("count")
    costs = measure_day(session)
    written, by_trigger, sent = map(sum, zip(*costs, strict=True))
    screen.text("\nTexts sent to the model:\n")
    headers = ["what happened", "rows written", "nightly run", "any-column trigger", "Evergreen"]
    rows = [(step.what, one.written, "", one.by_trigger, one.sent) for step, one in zip(DAY, costs, strict=True)]
    screen.table(headers, rows, ["total", written, nightly, by_trigger, sent])
    screen.text("Evergreen's column is measured: documents with a new embedded_at. A nightly run sends every row.")


def undo(session: Session, screen: Screen) -> None:
    """Act 6: known texts are not sent again."""
    screen.heading("Second thoughts", "The edits are undone. What will that cost? Ask about one row.")
    session.do("undo")
    for line in session.value("explain", show=True).splitlines():
        screen.server_output(line)
    drain_until_empty(session)


def _to_minute() -> str:
    return f"waiting ... pg_cron starts the worker at the next full minute, in {60 - time.time() % 60:.0f} s"


def _searchable_after(session: Session, screen: Screen, new: int, text: Callable[[], str]) -> str:
    """Wait until a row has fresh vectors, without calling anything; return the time."""
    started = time.monotonic()
    with screen.waiting(text()) as update:
        while not session.value("is_searchable", id=new):
            if time.monotonic() - started > _TIMEOUT:
                raise EvergreenError("the scheduled worker did not embed the row")
            time.sleep(0.01)
            update(text())
    return f"Searchable after {time.monotonic() - started:.2f} s"


def unattended(session: Session, screen: Screen) -> None:
    """Act 7: a scheduled worker makes new rows searchable."""
    screen.heading(
        "One more call", "and a worker inside the server keeps it fresh. We only watch: a row is added, then changed."
    )
    session.do("create_cron")
    session.value("schedule", show=True)
    new = session.value("count") + 1_000_000
    session.do("add", id=new)
    screen.text(f"{_searchable_after(session, screen, new, _to_minute)}, including the worker's start.\n")
    session.do("rename", id=new)
    screen.text(f"{_searchable_after(session, screen, new, lambda: 'waiting ...')}, with the worker running.\n")
    _show_answers(session, screen, "does anything look after stale vectors?", show=False)
