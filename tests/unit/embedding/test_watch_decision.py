"""What a look at a model means: noise raises nothing, another model does at the second look, two models alternate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.embedding.watch.decision import SETTLED, Finding, Known, LookVectors, Verdict, decide, drift
from evergreen.embedding.watch.texts import KEYS, TEXTS

LIMIT = 0.02


def model(seed: int, dimensions: int = 64) -> LookVectors:
    made = np.random.default_rng(seed).standard_normal((len(TEXTS), dimensions))
    return [(one / np.linalg.norm(one)).astype(np.float32) for one in made]


OLD, NEW, THIRD = model(1), model(2), model(3)


class Watch:
    """The state that looks leave behind, as ``state.record`` stores it."""

    def __init__(self, *references: LookVectors) -> None:
        self.known = Known(1, settled=True, agreeing=0, references=dict(enumerate(references, 1)), unconfirmed=None)

    def look(self, seen: LookVectors) -> Finding:
        before = self.known
        found = decide(before, seen, LIMIT)
        references = dict(before.references)
        doubtful = found.verdict in (Verdict.DOUBT, Verdict.ALTERNATES, Verdict.UNSETTLED)
        if not doubtful:
            references.setdefault(found.revision, seen)
        settled = before.settled if found.verdict is not Verdict.ALTERNATES else False
        self.known = Known(
            found.revision,
            settled or found.verdict is Verdict.CHANGED,
            found.agreeing,
            references,
            seen if doubtful else None,
        )
        return found


@pytest.mark.parametrize("dimensions", [64, 384, 1536, 3072])
def test_noise_of_a_thousandth_raises_nothing_in_ten_thousand_looks(dimensions):
    exact, chance = np.array(model(1, dimensions)), np.random.default_rng(7)
    watch = Watch(model(1, dimensions))
    for _ in range(10_000 if dimensions == 64 else 200):
        seen = exact + 1e-3 * chance.standard_normal(exact.shape)
        assert watch.look(list(seen.astype(np.float32))).verdict is Verdict.UNCHANGED


def test_the_first_look_makes_the_references():
    assert Watch().look(OLD) == Finding(Verdict.FIRST, 1, 0.0)


def test_another_model_is_said_at_the_second_look_that_agrees():
    watch = Watch(OLD)
    assert watch.look(NEW).verdict is Verdict.DOUBT
    assert watch.known.revision == 1
    found = watch.look(NEW)
    assert (found.verdict, found.revision) == (Verdict.CHANGED, 2)
    assert watch.look(NEW).verdict is Verdict.UNCHANGED


def test_the_model_of_before_is_known_again():
    watch = Watch(OLD, NEW)
    watch.look(NEW)
    watch.look(NEW)
    assert watch.known.revision == 2
    watch.look(OLD)
    assert watch.look(OLD).revision == 1
    watch.look(THIRD)
    assert watch.look(THIRD).revision == 3


@pytest.mark.parametrize("looks", [[NEW, OLD], [NEW, THIRD]])
def test_two_looks_that_disagree_stop_everything(looks):
    watch = Watch(OLD)
    assert [watch.look(one).verdict for one in looks] == [Verdict.DOUBT, Verdict.ALTERNATES]
    assert not watch.known.settled


def test_an_alternating_fleet_is_used_again_after_looks_that_agree():
    watch = Watch(OLD)
    for seen in [NEW, OLD, NEW, OLD, NEW]:
        watch.look(seen)
    verdicts = [watch.look(OLD).verdict for _ in range(SETTLED)]
    assert verdicts == [*[Verdict.UNSETTLED] * (SETTLED - 1), Verdict.CHANGED]
    assert (watch.known.revision, watch.known.settled) == (1, True)


def test_one_text_is_enough():
    assert drift([*OLD[:-1], NEW[-1]], OLD) > LIMIT


def test_vectors_without_a_direction():
    zeros = [np.zeros(64, dtype=np.float32)] * len(TEXTS)
    assert drift(zeros, zeros) == 0
    assert drift(zeros, OLD) == 1
    assert drift(OLD, model(1, 32)) == 2


@given(st.lists(st.sampled_from([OLD, NEW, THIRD]), max_size=30))
def test_what_counts_as_served_was_seen_twice_in_a_row(looks):
    watch = Watch(OLD)
    for number, seen in enumerate(looks):
        before = watch.known.revision
        found = watch.look(seen)
        if found.verdict is Verdict.CHANGED:
            assert looks[number - 1] is seen
        else:
            assert found.revision == before
        if watch.known.settled and watch.known.unconfirmed is None:
            assert drift(watch.known.references[watch.known.revision], seen) <= LIMIT


def test_texts_are_short_and_different():
    assert len(KEYS) == len(set(TEXTS)) >= 5
    assert all(len(text) < 300 for text in TEXTS)
