"""Work on a pipeline whose model is watched, until something is noticed."""

import psycopg

from tests.fixtures.pipelines.documents import status_of
from tests.fixtures.providers.turning import TurningProvider
from tests.fixtures.waiting import wait_until


def work(db: psycopg.Connection, seconds: float = 0.3) -> None:
    """Work for a while; looks that are due are taken."""
    db.execute(f"CALL embed_work(max_runtime => '{seconds} s')")


def finish(db: psycopg.Connection) -> None:
    """Work until nothing is left that can be done."""
    db.execute("CALL embed_work(until_empty => true, max_runtime => '20 s')")


def watch(db: psycopg.Connection) -> tuple[int, bool] | None:
    """The revision that is served, and whether answers are settled."""
    return db.execute("SELECT revision, settled FROM embed_models WHERE model = 'loop'").fetchone()


def served_as(db: psycopg.Connection) -> str | None:
    """What the server called the model at the last look."""
    row = db.execute("SELECT served_as FROM embed_models WHERE model = 'loop'").fetchone()
    assert row is not None
    return row[0]


def is_marked(db: psycopg.Connection) -> bool:
    """Whether everything that a changed model may have made is marked."""
    return not db.execute("SELECT FROM embed.model_sweep").fetchall()


def work_until(db: psycopg.Connection, state: str) -> None:
    """Work until the pipeline is in a state, and everything is marked."""

    def is_there() -> bool:
        work(db)
        return status_of(db, "state") == state and is_marked(db)

    wait_until(is_there, what=f"state {state}")


def look_once(db: psycopg.Connection, provider: TurningProvider) -> None:
    """Work until the model has been looked at."""
    seen = provider.looks
    wait_until(lambda: work(db) or provider.looks > seen)


def let_a_minute_pass(db: psycopg.Connection) -> None:
    """As if the last look had been a minute ago: sooner, no name brings the next one forward."""
    db.execute("UPDATE embed.model_watch SET watched_at = watched_at - interval '1 min'")


def every(db: psycopg.Connection, interval: str) -> None:
    """Set how often the model is looked at."""
    db.execute("SELECT embed_model_set('loop', jsonb_build_object('watch', %s::text))", (interval,))


def insert(db: psycopg.Connection, text: str) -> None:
    """Insert a row."""
    db.execute("INSERT INTO docs SELECT max(id) + 1, 'title', %s FROM docs", (text,))
