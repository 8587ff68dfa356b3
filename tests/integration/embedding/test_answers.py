"""Whatever a model's server answers becomes the right kind of error, and never a wrong text's vector."""

import numpy as np
import pytest

from evergreen.core.errors import ConfigurationError, RejectedError, RetryableError, SuspectError
from tests.fixtures.providers import faults
from tests.fixtures.providers.direct import SERVED
from tests.fixtures.providers.loopback import vector

TEXTS = ["one", "two words", "three words here"]


def right(answer, texts=TEXTS):
    return all(np.allclose(v, vector(text, 8), atol=1e-6) for v, text in zip(answer.vectors, texts, strict=True))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, RejectedError) for code in (400, 413, 422)),
        *((code, ConfigurationError) for code in (401, 402, 403, 404, 405, 410, 301, 302, 303, 307, 308)),
        *((code, RetryableError) for code in (408, 409, 418, 425, 429, 500, 502, 503, 504, 529, 201, 204)),
    ],
)
def test_a_status_says_whose_fault_it_is(ask, provider, code, kind):
    provider.fail(faults.status(code, b'{"error": "no"}' if code != 204 else b""))
    with pytest.raises(kind) as found:
        ask("openai", TEXTS)
    assert type(found.value) is kind
    assert str(code) in str(found.value)
    assert 'endpoint "here"' in str(found.value)


def test_a_redirect_is_not_followed(ask, provider):
    provider.fail(faults.redirect(f"{provider.url_of('openai')}/embeddings"), times=1)
    with pytest.raises(ConfigurationError):
        ask("openai", TEXTS)
    assert len(provider.requests) == 1


def test_nobody_having_paid_is_a_matter_of_configuration(ask, provider):
    provider.fail(faults.insufficient_quota())
    with pytest.raises(ConfigurationError, match="insufficient_quota"):
        ask("openai", TEXTS)


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize(
    "fault",
    [
        faults.html(),
        faults.truncated(),
        faults.truncated(0.99),
        faults.status(200, b""),
        faults.status(200, b"null"),
        faults.status(200, b"[]"),
        faults.status(200, b'"text"'),
        faults.status(200, b'{"error": {"message": "overloaded"}}'),
        faults.status(200, b'{"data": 5, "embeddings": 5}'),
        faults.status(200, b'{"data": {}, "embeddings": {}}'),
        faults.status(200, b'{"data": null, "embeddings": null}'),
        faults.status(200, b"[" * 100_000),
        faults.status(200, b"\xff\xfe\x00"),
        faults.status(200, b"PK\x03\x04", Content_Type="application/zip"),
        faults.compressed(300),
        faults.noise(),
        faults.reset(),
        faults.reset(after=40),
    ],
)
def test_what_is_no_answer_is_tried_again(ask, provider, name, fault):
    provider.fail(fault, times=1)
    with pytest.raises(RetryableError):
        ask(name, TEXTS)
    assert right(ask(name, TEXTS)), "the connection before it spoils nothing"


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("change", [-1, 1, 5])
def test_another_number_of_vectors_is_suspect(ask, provider, name, change):
    provider.fail(faults.count(change))
    with pytest.raises(SuspectError, match="3 texts gave"):
        ask(name, TEXTS)


@pytest.mark.parametrize("name", ["openai", "voyage"])
def test_the_index_says_which_vector_is_whose(ask, provider, name):
    provider.fail(faults.backwards())
    assert right(ask(name, TEXTS))


def reindexed(*indexes):
    def change(answer):
        data = [
            {**item, "index": i} if i is not None else {k: v for k, v in item.items() if k != "index"}
            for item, i in zip(answer["data"], indexes, strict=True)
        ]
        return {**answer, "data": data}

    return faults.reshaped(change)


@pytest.mark.parametrize("indexes", [(0, 0, 1), (1, 2, 3), (-1, 0, 1), (0, 2, 2), (0, 10**30, 1)])
def test_indexes_that_are_none_give_no_vector_to_a_wrong_text(ask, provider, indexes):
    provider.fail(reindexed(*indexes))
    with pytest.raises(RetryableError):
        ask("openai", TEXTS)


def test_a_server_without_indexes_keeps_the_order(ask, provider):
    provider.fail(reindexed(None, None, None))
    assert right(ask("openai", TEXTS))


BROKEN = {
    "null": lambda _: None,
    "empty": lambda _: [],
    "empty text": lambda _: "",
    "no base64": lambda _: "not base64!",
    "half a number": lambda _: "AAAAAAA=",
    "texts": lambda v: [str(x) for x in v],
    "one null": lambda v: [*v[:-1], None],
    "flags": lambda v: [True] * len(v),
    "nested": lambda v: [v],
    "ragged": lambda v: [v, v[:2]],
    "objects": lambda v: [{}] * len(v),
    "infinite": lambda v: [1e300, *v[1:]],
    "a number": lambda _: 5,
    "an object": lambda _: {},
    "too few": lambda v: v[:-1],
    "too many": lambda v: [*v, 0.5],
}


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("how", BROKEN)
def test_one_item_that_is_no_vector_costs_its_neighbours_nothing(ask, provider, name, how):
    provider.fail(faults.each(BROKEN[how], only=lambda text: text == "two words"))
    one, two, three = ask(name, TEXTS).vectors
    assert right(type("A", (), {"vectors": [one, three]}), [TEXTS[0], TEXTS[2]])
    assert two.shape != (8,) or not np.isfinite(two).all()


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_not_a_number_is_read_as_what_it_says(ask, provider, word):
    """JSON has no such thing, and Python servers write it."""

    def fault(reply):
        reply.headers["Content-Length"] = str(len(reply.rendered()[1].replace(b"0.123", word.encode())))
        reply.body = reply.rendered()[1].replace(b"0.123", word.encode())

    provider.fail(faults.each(lambda v: [0.123, *v[1:]], only=lambda text: text == "one"))
    provider.fail(fault)
    one, two, three = ask("ollama", TEXTS).vectors
    assert not np.isfinite(one).all()
    assert right(type("A", (), {"vectors": [two, three]}), TEXTS[1:])


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("asked", [True, False])
def test_a_server_of_other_dimensions_is_a_matter_of_configuration(ask, provider, name, asked):
    provider.fail(faults.each(lambda v: [*v, *v]))
    with pytest.raises(ConfigurationError, match="registered with 8 dimensions, and the server gives 16") as found:
        ask(name, TEXTS, send_dimensions=asked)
    assert ("ignores" in str(found.value)) is asked
    assert "send_dimensions" in str(found.value)


PAUSES = {
    (429, "6m0s"): {"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "6m0s"},
    (503, "7 s"): {"Retry_After": "7"},
    (200, "2 s"): {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "2s"},
    (200, "6 s"): {"x_ratelimit_remaining_tokens": "0", "x_ratelimit_limit_tokens": "60"},
}
SECONDS = {"6m0s": 360, "7 s": 7, "2 s": 2, "6 s": 6}


@pytest.mark.parametrize(("code", "what"), PAUSES)
@pytest.mark.parametrize("name", SERVED)
def test_what_the_server_says_about_its_limits_comes_along(ask, provider, name, code, what):
    provider.fail(faults.headers(**PAUSES[code, what]))
    if code == 200:
        assert ask(name, TEXTS).pause == SECONDS[what], "six words are six tokens"
        return
    provider.fail(faults.status(code))
    with pytest.raises(RetryableError) as found:
        ask(name, TEXTS)
    assert found.value.pause == SECONDS[what]


@pytest.mark.parametrize("name", SERVED)
def test_an_answer_without_such_headers_asks_for_no_pause(ask, provider, name):
    assert ask(name, TEXTS).pause == 0
    provider.fail(faults.status(503))
    with pytest.raises(RetryableError) as found:
        ask(name, TEXTS)
    assert found.value.pause is None
