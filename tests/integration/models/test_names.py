"""What the server calls the model: another name brings the next look forward, and proves nothing."""

import pytest

from tests.fixtures.pipelines.documents import status_of
from tests.fixtures.providers.turning import model_of_vectors
from tests.fixtures.waiting import Background, wait_until
from tests.integration.models.watching import (
    every,
    finish,
    insert,
    let_a_minute_pass,
    look_once,
    served_as,
    watch,
    work,
    work_until,
)

pytestmark = pytest.mark.slow


def test_another_name_alone_raises_nothing(db, watched):
    look_once(db, watched)
    every(db, "1 hour")
    work(db)
    assert served_as(db) == "loop"
    let_a_minute_pass(db)
    watched.name = "loop-2026-06"
    insert(db, "answered under another name")
    finish(db)
    wait_until(lambda: work(db) or served_as(db) == "loop-2026-06")
    assert watch(db) == (1, True)
    assert status_of(db, "state") == "active"
    seen = watched.looks
    let_a_minute_pass(db)
    insert(db, "once more")
    finish(db)
    assert watched.looks == seen


def test_answers_under_two_names_bring_a_look_a_minute(db, watched):
    look_once(db, watched)
    every(db, "1 hour")
    work(db)
    seen = watched.looks
    for number in range(6):
        watched.name = f"server-{number % 2}"
        insert(db, f"answered by server {number}")
        finish(db)
    assert watched.looks == seen
    let_a_minute_pass(db)
    for number in range(6):
        watched.name = f"server-{number % 2}"
        insert(db, f"answered again by server {number}")
        finish(db)
    assert watched.looks == seen + 1
    assert watch(db) == (1, True)


def test_an_alias_that_points_elsewhere_is_noticed_before_its_time(db, watched):
    look_once(db, watched)
    every(db, "1 hour")
    work(db)
    let_a_minute_pass(db)
    watched.name = "another-model"
    watched.become("new")
    insert(db, "by another model")
    finish(db)
    work_until(db, "model changed")
    assert watch(db) == (2, True)
    assert "new" not in model_of_vectors(db, "embed_store.g1", watched)


def test_a_noisy_server_raises_nothing(db, watched):
    watched.noise = 1e-3
    seen = watched.looks
    wait_until(lambda: work(db) or watched.looks > seen + 10)
    assert watch(db) == (1, True)
    assert status_of(db, "state") == "active"


def test_looks_are_accounted_for_without_a_pipeline(db, watched):
    look_once(db, watched)
    work(db)
    ((calls, questions),) = db.execute("SELECT calls, questions FROM embed_usage WHERE pipeline IS NULL").fetchall()
    assert calls >= 1
    assert questions == 0


def test_four_workers_take_one_look(db, connect, watched):
    look_once(db, watched)
    every(db, "1 hour")
    work(db)
    seen = watched.looks
    every(db, "2 hours")  # due at once
    sessions = [connect() for _ in range(4)]
    for worker in [Background(session, "CALL embed_work(max_runtime => '1 s')") for session in sessions]:
        worker.result()
    assert watched.looks == seen + 1
