"""Requests are packed, fly side by side, and are halved when refused, until the text to blame is alone."""

import signal
import threading
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.core.embedding import Limits
from evergreen.core.errors import RejectedError, RetryableError
from evergreen.core.job import Lane
from evergreen.embedding.batching import pack
from tests.unit.embedding.dispatching import MODEL, Fake, make_dispatcher, refuse, run, run_all, task, texts, waits_for


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 5), st.one_of(st.none(), st.integers(1, 20)))
def test_requests_stay_within_the_limits_and_keep_the_order(lengths, inputs, tokens):
    wanted = {str(i).encode(): "x" * length for i, length in enumerate(lengths)}
    requests = list(pack(wanted, Limits(inputs, tokens)))
    assert [key for request in requests for key in request] == list(wanted)
    for request in requests:
        assert 1 <= len(request) <= inputs
        cost = sum(ceil(len(wanted[key]) / 4) for key in request)
        assert tokens is None or cost <= tokens or len(request) == 1


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 5), st.integers(1, 20))
def test_no_request_could_have_taken_the_text_after_it(lengths, inputs, tokens):
    wanted = {str(i).encode(): "x" * length for i, length in enumerate(lengths)}
    requests = list(pack(wanted, Limits(inputs, tokens)))
    for request, following in pairwise(requests):
        cost = sum(ceil(len(wanted[key]) / 4) for key in [*request, following[0]])
        assert len(request) == inputs or cost > tokens


@pytest.mark.parametrize("sql", [False, True])
def test_each_text_gets_its_own_vector_and_is_sent_once(sql):
    provider, wanted = Fake(sql=sql), texts(50)
    outcome = run(provider, wanted)
    assert {key: (v[0], v[1]) for key, v in outcome.vectors.items()} == {
        key: (len(text), ord(text[0])) for key, text in wanted.items()
    }
    assert not outcome.failures
    assert sorted(text for request in provider.requests for text in request) == sorted(wanted.values())


def test_nothing_is_asked_for_nothing():
    provider = Fake()
    assert not run(provider, {}).vectors
    assert provider.requests == []


def test_a_provider_that_runs_sql_stays_on_this_thread():
    provider = Fake(sql=True)
    run(provider, texts(50))
    assert provider.threads == {threading.get_ident()}


def test_other_providers_work_side_by_side_and_never_on_this_thread():
    """Four requests wait for each other: they only come back if all are under way at once."""
    together = threading.Barrier(4)
    provider = Fake(waits_for(together), inputs=1)
    outcome = run(provider, texts(8), at_once=4)
    assert len(outcome.vectors) == 8
    assert threading.get_ident() not in provider.threads


def test_no_more_requests_are_under_way_than_the_limits_allow():
    under_way = threading.Semaphore(2)

    def answer(batch):
        assert under_way.acquire(blocking=False)
        threading.Event().wait(0.002)
        under_way.release()

    assert len(run(Fake(answer, inputs=1), texts(20), at_once=2).vectors) == 20


def test_the_caller_breathes_while_a_model_works():
    release = threading.Event()
    breaths = []

    def on_tick():
        breaths.append(1)
        if len(breaths) == 3:
            release.set()

    outcome = run(Fake(waits_for(release)), texts(3), on_tick=on_tick)
    assert len(outcome.vectors) == 3


def test_what_breathe_raises_ends_the_call():
    """A cancelled statement: it must not wait for the model."""
    release = threading.Event()

    def on_tick():
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            run(Fake(waits_for(release)), texts(3), on_tick=on_tick)
    finally:
        release.set()


def test_threads_take_no_signals():
    masks = []
    run(Fake(lambda _: masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))), texts(3))
    assert all({signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM} <= mask for mask in masks)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_text_that_another_order_is_sending_is_not_sent_again():
    release = threading.Event()
    provider, dispatcher = Fake(waits_for(release)), make_dispatcher()
    first, second = task(provider, texts(8)), task(provider, {b"new": "z26"})
    dispatcher.submit(first, set())
    dispatcher.poll(0)
    awaited = dispatcher.under_way(MODEL, [b"0", b"1", b"other"])
    assert awaited == {b"0", b"1"}
    dispatcher.submit(second, awaited)
    release.set()
    run_all(dispatcher)
    assert set(second.result.vectors) == {b"0", b"1", b"new"}
    assert sum(len(request) for request in provider.requests) == 9
    assert dispatcher.under_way(MODEL, [b"0"]) == set()


def test_what_an_order_has_its_answer_for_is_handed_on_while_the_rest_is_out():
    release = threading.Event()
    provider = Fake(lambda batch: release.wait(20) and None if "j9" in batch else None)
    provider.at_once, dispatcher = 2, make_dispatcher()
    first = task(provider, texts(10))  # two requests, of which the second hangs
    dispatcher.submit(first, set())
    while not first.result.vectors:
        dispatcher.poll()
    second = task(provider, {})
    dispatcher.submit(second, dispatcher.under_way(MODEL, [b"0"]))
    assert dispatcher.poll() == [second]
    assert set(second.result.vectors) == {b"0"}
    release.set()
    run_all(dispatcher)


def test_who_follows_a_text_that_fails_is_to_try_by_its_own_rules():
    """Its pipeline may truncate, or have money left."""
    provider, dispatcher = Fake(refuse("a0")), make_dispatcher()
    first, second = task(provider, texts(3)), task(provider, {})
    dispatcher.submit(first, set())
    dispatcher.submit(second, {b"0", b"1"})
    run_all(dispatcher)
    assert second.result.failures == {}
    assert second.unsent == {b"0"}
    assert set(second.result.vectors) == {b"1"}


def test_what_is_recalled_is_not_sent_and_has_not_failed():
    release = threading.Event()
    provider, dispatcher = Fake(waits_for(release), inputs=2), make_dispatcher()
    provider.at_once = 1
    one, waiter = task(provider, texts(8)), task(provider, {})
    dispatcher.submit(one, set())
    dispatcher.submit(waiter, {b"0", b"7"})
    dispatcher.poll(0)
    dispatcher.stop_sending()
    release.set()
    run_all(dispatcher)
    assert set(one.result.vectors) == {b"0", b"1"}
    assert one.unsent == set(texts(8)) - {b"0", b"1"}
    assert not one.result.failures
    assert waiter.unsent == {b"7"}


def test_after_a_recall_nothing_is_sent_again():
    """Neither the halves of a refused request nor one that failed."""
    for error in (RejectedError("no"), RetryableError("hiccup")):
        release = threading.Event()

        def answer(_batch, error=error, release=release):
            release.wait(20)
            raise error

        provider, dispatcher = Fake(answer), make_dispatcher()
        provider.at_once = 1
        one = task(provider, texts(8))
        dispatcher.submit(one, set())
        dispatcher.poll(0)
        dispatcher.stop_sending()
        release.set()
        run_all(dispatcher)
        assert len(provider.requests) == 1
        assert one.unsent == set(texts(8))


def test_orders_are_served_in_turn():
    """A long one does not keep a short one waiting."""
    provider, dispatcher = Fake(inputs=1), make_dispatcher()
    provider.at_once = 1
    long, short = task(provider, texts(20)), task(provider, {b"s": "short"})
    dispatcher.submit(long, set())
    dispatcher.submit(short, set())
    assert run_all(dispatcher)[0] is short
    assert provider.requests.index(["short"]) == 1


@pytest.mark.parametrize(("share", "most"), [(0.8, 6), (0.5, 14)])
def test_backfill_has_its_share_beside_live_work(share, most):
    provider, dispatcher = Fake(inputs=1), make_dispatcher()
    provider.at_once = 1
    dispatcher.submit(task(provider, {f"b{i}".encode(): f"backfill {i}" for i in range(40)}, lane=Lane.BACKFILL), set())
    dispatcher.submit(
        task(provider, {f"l{i}".encode(): f"live {i}" for i in range(20)}, lane=Lane.LIVE, live_share=share), set()
    )
    run_all(dispatcher)
    sent = [request[0].split()[0] for request in provider.requests]
    while_live = sent[: len(sent) - sent[::-1].index("live")]
    assert 2 <= while_live.count("backfill") <= most + 8 * (share == 0.5)
