"""Whatever is wrong with an answer: no wrong vector, no raw error, and all is fresh once the server is mended."""

import numpy as np
import pytest
from hypothesis import given

from evergreen.core.embedding import Request
from evergreen.core.errors import ModelError
from tests.fixtures.deterministic import often
from tests.fixtures.error_checks import RAW
from tests.fixtures.pipelines.documents import assert_as_source, drain_all, shown, stale_keys, status_of
from tests.fixtures.pipelines.endpoints import CALLS, let_time_pass
from tests.fixtures.providers.direct import SERVED, model_of
from tests.fixtures.providers.loopback import vector
from tests.fixtures.providers.malformed_answers import GARBLED

TEXTS = ["one", "two words", "three words here"]
SHORT = {"connect_timeout": 1, "read_timeout": 0.3, "total_timeout": 0.4}


def check_vectors(answer):
    """What is no vector is known by its dimensions or by what is in it; the others are those of their texts."""
    assert len(answer.vectors) == len(TEXTS)
    for text, found in zip(TEXTS, answer.vectors, strict=True):
        if found.shape == (8,) and np.isfinite(found).all():
            assert np.allclose(found, vector(text, 8), atol=1e-6), text
    assert 0 <= answer.pause <= 3600
    assert answer.tokens is None or 0 <= answer.tokens < 1e15


@pytest.mark.parametrize("examples", [60, pytest.param(3000, marks=pytest.mark.stress)])
@pytest.mark.parametrize("name", SERVED)
def test_an_answer_is_read_as_vectors_or_refused(provider, name, examples):
    @often(examples)
    @given(GARBLED)
    def ask(fault):
        provider.mend()
        provider.fail(fault)
        try:
            answer = SERVED[name].embed(
                model_of(name, provider.url_of(name), endpoint=SHORT), Request(TEXTS, "document")
            )
        except ModelError as error:
            assert not RAW.search(str(error)), error  # noqa: PT017 - either is fine
        else:
            check_vectors(answer)

    ask()


@pytest.mark.parametrize("examples", [4, pytest.param(150, marks=pytest.mark.stress)])
def test_rows_wait_or_are_given_up_with_a_reason_and_all_is_fresh_in_the_end(db, connect, docs, provider, examples):
    """One table, and a pipeline of each provider: each gets the same kind of answer to its own requests."""
    for name in SERVED:
        provider.register(db, name, provider=name, endpoint=SHORT)
        db.execute("SELECT embed_create(%s, 'docs', columns => '{title,body}', model => %s)", (name, name))
    drain_all(db)
    worker = connect()
    worker.execute("SET client_min_messages = error")
    numbers = iter(range(1, 10_000))
    roads = [road.replace("20 s", "1 s").replace("()", "(max_runtime => '1 s')") for road in CALLS.values()]

    @often(examples)
    @given(GARBLED)
    def live(fault):
        number = next(numbers)
        db.execute("UPDATE docs SET body = %s || id WHERE id %% 2 = 0", (f"text {number} ",))
        provider.fail(fault)
        worker.execute(roads[number % 2])
        for name in SERVED:
            check_rows(db, name)
        provider.mend()
        let_time_pass(db)
        for name in SERVED:
            db.execute("SELECT embed_retry(%s)", (name,))
        drain_all(db)
        for name in SERVED:
            assert_as_source(db, name, "docs")

    live()
    assert worker.execute("SELECT pg_backend_pid()").fetchone() == (worker.info.backend_pid,)


LEFT = """
SELECT (SELECT count(*) FROM embed.job j WHERE j.generation = g.id),
       (SELECT count(*) FROM embed.failure f WHERE f.generation = g.id)
FROM embed.generation g JOIN embed.pipeline p ON p.id = g.pipeline WHERE p.name = %s
"""


def check_rows(db, name):
    """Every vector is that of its chunk; what is not fresh waits, or is a dead letter with a reason to read."""
    for text, found in shown(db, name).values():
        assert found == pytest.approx(vector(text, len(found)), abs=1e-6), text
    assert len(stale_keys(db, name)) == sum(db.execute(LEFT, (name,)).fetchone())
    for kind, message in db.execute("SELECT class, message FROM embed_failures WHERE pipeline = %s", (name,)):
        assert kind in {"permanent", "retryable", "configuration"}
        assert not RAW.search(message), message
    assert not RAW.search(status_of(db, "last_error", name) or "")
