"""Another model under the same name: noticed within two looks, stopped, and resumed when it is back."""

import pytest
from psycopg import errors

from evergreen.embedding.watch.texts import TEXTS
from tests.fixtures.pipelines.documents import status_of, verified
from tests.fixtures.providers.turning import model_of_vectors
from tests.fixtures.waiting import wait_until
from tests.integration.models.watching import every, finish, insert, look_once, watch, work, work_until

pytestmark = pytest.mark.slow


def test_a_model_that_stays_the_same_raises_nothing(db, watched):
    seen = watched.looks
    wait_until(lambda: work(db) or watched.looks > seen + 5)
    assert watch(db) == (1, True)
    assert db.execute("SELECT drift, served_as, watched_at > now() - interval '1 min' FROM embed_models"
                      " WHERE model = 'loop'").fetchone() == (pytest.approx(0, abs=1e-6), "loop", True)  # fmt: skip
    assert status_of(db, "state") == "active"


def test_another_model_is_noticed_and_nothing_of_it_is_written(db, watched):
    look_once(db, watched)
    watched.become("new")
    work_until(db, "model changed")
    assert watch(db) == (2, True)
    watched.reset()
    insert(db, "written later")
    work(db, 1)
    assert not any("written later" in text for text in watched.sent)
    assert status_of(db, "pending") >= 1
    assert "revision 2" in status_of(db, "last_error")
    assert "new" not in model_of_vectors(db, "embed_store.g1", watched)
    watched.become("old")
    work_until(db, "active")
    finish(db)
    assert verified(db)["fresh"] == 11
    assert set(model_of_vectors(db, "embed_store.g1", watched)) == {"old"}
    assert watch(db) == (1, True)


def test_two_looks_are_enough(db, watched):
    look_once(db, watched)
    every(db, "1 hour")
    work(db)
    seen = watched.looks
    watched.become("new")
    db.execute("UPDATE embed.model_watch SET next_at = now()")
    wait_until(lambda: work(db) or watch(db) == (2, True))
    assert watched.looks == seen + 2
    work(db, 1)
    assert watched.looks == seen + 2


def test_what_was_written_between_the_looks_is_marked_and_embedded_again(db, watched):
    look_once(db, watched)
    every(db, "1 hour")
    work(db)
    watched.become("new")
    insert(db, "by the new one")
    finish(db)
    assert len(model_of_vectors(db, "embed_store.g1", watched)["new"]) == 1
    every(db, "50 ms")
    work_until(db, "model changed")
    found = model_of_vectors(db, "embed_store.g1", watched)
    assert "new" not in found
    assert "title\n\nby the new one" in found["marked"]
    assert verified(db)["mixed"] == len(found["marked"])
    (stale,) = db.execute("SELECT is_stale FROM docs_embedding WHERE chunk LIKE '%by the new one'").fetchone()
    assert stale
    watched.become("old")
    work_until(db, "active")
    finish(db)
    assert set(model_of_vectors(db, "embed_store.g1", watched)) == {"old"}
    assert verified(db) == {"fresh": 11, "stale": 0, "missing": 0, "orphan": 0, "mixed": 0}


def test_rebuild(db, watched):
    look_once(db, watched)
    watched.become("new")
    work_until(db, "model changed")
    watched.reset()
    db.execute("SELECT embed_build('docs')")
    finish(db)
    db.execute("SELECT embed_promote('docs')")
    assert status_of(db, "state") == "active"
    assert set(model_of_vectors(db, "embed_store.g2", watched)) == {"new"}
    assert verified(db)["fresh"] == 10
    assert sum(count for text, count in watched.sent.items() if "body" in text) == 10


def test_alternating_answers_stop_everything(db, watched):
    look_once(db, watched)
    watched.serves = lambda number: "new" if number % 2 else "old"
    work_until(db, "model changed")
    wait_until(lambda: work(db) or watch(db) == (1, False))
    watched.become("old")
    work_until(db, "active")
    assert watch(db) == (1, True)


def test_accept(db, watched):
    look_once(db, watched)
    watched.become("new")
    work_until(db, "model changed")
    assert db.execute("SELECT embed_model_accept('loop')").fetchone() == (1,)
    assert status_of(db, "state") == "active"
    before = watched.looks
    wait_until(lambda: work(db) or watched.looks > before + 3)
    assert watch(db) == (1, True)
    insert(db, "after acceptance")
    finish(db)
    assert "title\n\nafter acceptance" in model_of_vectors(db, "embed_store.g1", watched)["new"]


def test_a_look_that_fails_stops_nothing(db, watched):
    look_once(db, watched)
    watched.answer = lambda texts: (500, b"{}") if "freshness" in texts else None
    insert(db, "meanwhile")
    finish(db)
    assert status_of(db, "state") == "active"


@pytest.mark.few(1)
@pytest.mark.parametrize("answer", [(500, b"{}"), (400, b"{}"), (200, b"no JSON")])
def test_rows_are_embedded_at_once_however_many_looks_fail(db, watched, answer):
    look_once(db, watched)
    watched.answer = lambda texts: answer if any(text in TEXTS for text in texts) else None
    failed = watched.looks
    wait_until(lambda: work(db) or watched.looks > failed + 5)
    assert db.execute("SELECT breaker, failures FROM embed_endpoints").fetchone() == ("closed", 0)
    insert(db, "meanwhile")
    finish(db)
    assert verified(db)["fresh"] == 11
    assert watch(db) == (1, True)


def test_a_search_warns(db, watched):
    look_once(db, watched)
    watched.become("new")
    work_until(db, "model changed")
    said: list[tuple[str | None, ...]] = []
    db.add_notice_handler(lambda n: said.append((n.severity_nonlocalized, n.sqlstate, n.message_primary)))
    assert db.execute("SELECT count(*) FROM embed_search('docs', 'question')").fetchone() == (10,)
    changed = 'model "loop" of pipeline "docs" changed: questions are embedded by another model than the vectors'
    assert said == [("WARNING", "01000", changed)]


def test_warn_goes_on(db, watched):
    look_once(db, watched)
    db.execute("SELECT embed_alter('docs', '{\"on_model_change\": \"warn\"}')")
    watched.become("new")
    wait_until(lambda: work(db) or watch(db) == (2, True))
    insert(db, "by whatever")
    finish(db)
    assert status_of(db, "state") == "active"
    assert "title\n\nby whatever" in model_of_vectors(db, "embed_store.g1", watched)["new"]


def test_the_setting_says_what_it_takes(db):
    with pytest.raises(errors.InvalidParameterValue, match='setting "watch"') as found:
        db.execute("SELECT embed_setting('watch', 'soon')")
    assert found.value.diag.message_hint == "For example '1 hour'; 'off': never."
    db.execute("SELECT embed_setting('watch', 'off')")
    assert db.execute("SELECT embed_setting('watch')").fetchone() == ("off",)
