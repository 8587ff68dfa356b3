"""Headers that say when to send the next request."""

import email.utils
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3 import HTTPHeaderDict

from evergreen.embedding.http.answers import LONGEST, after_answer, after_refusal, duration

NOW = 1_800_000_000.0


def date(seconds):
    return email.utils.formatdate(NOW + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("1s", 1),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("2m59.56s", 179.56),
        ("7.66s", 7.66),
        ("500us", 0.0005),
        ("500µs", 0.0005),
        ("1d2h", 93_600),
        ("1m20ms", 60.02),
        ("0", 0),
        ("0s", 0),
        ("12", 12),
        ("0.5", 0.5),
        (" 12 ", 12),
        *((text, None) for text in ("", " ", None, "-1", "-1s", "s", "1 s", "1x", "soon", "1e3", "nan", "inf", "1,2")),
        *((text, None) for text in ("²", "٣", "1s 2s", "s1", ".", "1.", "9" * 400)),
    ],
)
def test_durations(text, seconds):
    assert duration(text) == (pytest.approx(seconds) if seconds is not None else None)


REMAINING, RESET, LIMIT = (f"x-ratelimit-{word}-" for word in ("remaining", "reset", "limit"))


@pytest.mark.parametrize(
    ("status", "headers", "pause"),
    [
        (429, {}, None),
        (503, {"Retry-After": "7"}, 7),
        (429, {"Retry-After": "0"}, 0),
        (429, {"Retry-After": "1.5"}, 1.5),
        (429, {"Retry-After": date(90)}, 90),
        (429, {"Retry-After": date(-90)}, 0),
        (429, {"Retry-After": "99999999"}, LONGEST),
        (429, {"Retry-After": date(10**8)}, LONGEST),
        (429, {"Retry-After": "tomorrow"}, None),
        (429, {"Retry-After": "Mon, 99 Foo 2027 99:99:99 GMT"}, None),
        (429, {"Retry-After": "-5"}, None),
        (429, {"retry-after-ms": "250"}, 0.25),
        (429, {"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        (429, {"retry-after-ms": "x", "Retry-After": "1"}, 1),
        (429, {RESET + "requests": "20ms"}, 0.02),
        (429, {RESET + "tokens": "6m0s"}, 360),
        (429, {RESET + "requests": "1s", RESET + "tokens": "6m0s"}, 360),
        (429, {RESET + "requests": "9s", REMAINING + "requests": "0", RESET + "tokens": "6m0s"}, 360),
        (
            429,
            {
                RESET + "requests": "9s",
                REMAINING + "requests": "0",
                RESET + "tokens": "6m0s",
                REMAINING + "tokens": "17",
            },
            9,
        ),
        (429, {RESET + "tokens": "6m0s", REMAINING + "tokens": "17"}, None),
        (429, {RESET + "tokens": "6m0s", "Retry-After": "2"}, 2),
        (429, {RESET + "tokens": str(int(NOW) + 30)}, 30),
        (503, {RESET + "tokens": "6m0s"}, None),
        (429, {RESET + "tokens": "900d"}, LONGEST),
        (429, {RESET + "tokens": "soon"}, None),
    ],
)
def test_what_a_refusal_asks_for(status, headers, pause):
    found = after_refusal(HTTPHeaderDict(headers), status, NOW)
    assert found == (pytest.approx(pause, abs=1e-3) if pause is not None else None)


@pytest.mark.parametrize(
    ("headers", "tokens", "pause"),
    [
        ({}, 100, 0),
        ({REMAINING + "requests": "1", RESET + "requests": "6m0s"}, 100, 0),
        ({REMAINING + "requests": "0", RESET + "requests": "8.64s"}, 100, 8.64),
        ({REMAINING + "requests": "0"}, 100, 0),
        ({REMAINING + "tokens": "100", RESET + "tokens": "6m0s"}, 100, 0),
        ({REMAINING + "tokens": "99", RESET + "tokens": "6m0s"}, 100, 360),
        ({REMAINING + "tokens": "40", LIMIT + "tokens": "120", RESET + "tokens": "40s"}, 100, 30),
        ({REMAINING + "tokens": "40", LIMIT + "tokens": "0", RESET + "tokens": "40s"}, 100, 40),
        ({REMAINING + "tokens": "0", LIMIT + "tokens": "1"}, 10**9, LONGEST),
        (
            {
                REMAINING + "tokens": "40",
                LIMIT + "tokens": "120",
                REMAINING + "requests": "0",
                RESET + "requests": "50s",
            },
            100,
            50,
        ),
        ({REMAINING + "requests": "none", REMAINING + "tokens": "-1"}, 100, 0),
    ],
)
def test_what_an_answer_asks_for(headers, tokens, pause):
    assert after_answer(HTTPHeaderDict(headers), tokens, NOW) == pytest.approx(pause)


NAMES = ["retry-after", "retry-after-ms"] + [p + k for p in (REMAINING, RESET, LIMIT) for k in ("requests", "tokens")]
VALUES = st.one_of(
    st.text(max_size=20), st.integers().map(str), st.floats().map(str), st.just("6m0s"), st.just("9" * 15 + "d")
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES), st.integers(0, 10**9), st.sampled_from([429, 500, 503]))
def test_no_header_makes_more_of_it_than_an_hour(headers, tokens, status):
    refused = after_refusal(headers, status, NOW)
    assert refused is None or 0 <= refused <= LONGEST
    answered = after_answer(headers, tokens, NOW)
    assert 0 <= answered <= LONGEST
    assert math.isfinite(answered)


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(hours, minutes, seconds, milliseconds):
    assert duration(f"{hours}h{minutes}m{seconds}.{milliseconds:03}s") == pytest.approx(
        hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    )
