"""Charts, history and the map of the operator's page."""

from datetime import timedelta

import numpy as np
import pytest

from evergreen_host.dashboard import charts, vector_map
from evergreen_host.dashboard.history import SPANS, History, Ring, Span, reading
from evergreen_host.dashboard.run import address_of
from evergreen_host.dashboard.security import Guard, comes_from_elsewhere, host_name, is_loopback
from evergreen_host.errors import EvergreenError


def row(pending=0, oldest=None, lag=None, pipeline="docs"):
    seconds = timedelta(seconds=lag) if lag is not None else None
    age = timedelta(seconds=oldest) if oldest is not None else None
    lags = dict.fromkeys(("lag_p50", "lag_p95", "lag_p99"), seconds)
    return {"pipeline": pipeline, "pending": pending, "in_flight": 1, "oldest_pending_age": age, **lags}


def test_a_ring_is_bounded_and_keeps_the_worst_of_a_step():
    ring = Ring(Span("test", 10, 3))
    for at, pending in ((0, 1), (3, 9), (9, 2), (10, 4), (20, 5), (30, 6)):
        ring.add(reading(row(pending, lag=pending), at))
    assert [(one.at, one.backlog, one.lags[0]) for one in ring.readings()] == [(10, 5, 4), (20, 6, 5), (30, 7, 6)]
    ring = Ring(Span("test", 10, 3))
    for at, pending in ((0, 1), (3, 9), (9, 2)):
        ring.add(reading(row(pending), at))
    assert [(one.at, one.backlog) for one in ring.readings()] == [(0, 10)]


def test_history_forgets_pipelines_that_are_gone():
    history = History()
    history.add([row(pipeline="a"), row(pipeline="b")], 0)
    history.add([row(pipeline="b")], 10)
    assert history.readings("a", SPANS[0].name) == []
    assert len(history.readings("b", SPANS[0].name)) == 2
    assert history.readings("b", "nonsense") == []


def test_a_line_chart():
    chart = charts.lines("Lag", [0, 10, 20], [("p50", "one", [1.0, None, 4.0])], step=10, as_seconds=True)
    assert [tick.label for tick in chart.rows] == ["0 ms", "2.5 s", "5 s"]
    assert len(chart.lines[0].pieces) == 2
    assert chart.summary == "Lag: p50 now 4 s; highest 4 s"
    empty = charts.lines("Lag", [], [("p50", "one", [])], step=10)
    assert empty.summary == "Lag: p50 now none; no readings yet"


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.03, 0.05), (1, 1), (3, 5), (7, 10), (21, 25), (1000, 1000)])
def test_the_end_of_an_axis_is_round(value, top):
    assert charts.nice_top(value) == pytest.approx(top)


def test_hours_beside_a_nightly_job():
    chart = charts.hours("Texts", [(0.0, 10.0, 5.0), (3600.0, 0.0, 0.0)], 240)
    assert [(bar.style, bar.title) for bar in chart.bars] == [
        ("sent", "00:00 UTC: 10 texts sent"),
        ("saved", "00:00 UTC: 5 texts not sent"),
    ]
    assert chart.rule is not None
    assert chart.rule.label.endswith("10")
    assert "a nightly job would have sent 240 a day" in chart.summary


def test_a_sparkline_needs_two_values():
    assert charts.sparkline([3]) == ""
    assert charts.sparkline([0, 0]) == "1.0,19.0 95.0,19.0"


def test_a_projection_shows_the_directions_of_most_variance():
    chance = np.random.default_rng(1)
    plane = chance.standard_normal((50, 2)).astype(np.float32) * [10, 5]
    axes = np.linalg.qr(chance.standard_normal((16, 16)))[0][:2]
    vectors = (plane @ axes + 0.01 * chance.standard_normal((50, 16))).astype(np.float32)
    shown, explained = vector_map.project(vectors)
    assert explained > 0.99
    apart = np.linalg.norm(plane[0] - plane[1])
    assert np.linalg.norm(shown[0] - shown[1]) == pytest.approx(apart, rel=0.05)
    same, explained = vector_map.project(np.ones((5, 4), dtype=np.float32))
    assert (same.shape, explained) == ((5, 2), 0.0)
    assert vector_map.project(np.arange(4, dtype=np.float32).reshape(4, 1))[0].shape == (4, 2)


def test_addresses_to_listen_on():
    assert address_of("127.0.0.1:80") == ("127.0.0.1", 80)
    assert address_of("[::1]:9188") == ("::1", 9188)
    assert address_of("0.0.0.0") == ("0.0.0.0", 9188)
    assert address_of("127.0.0.1:0") == ("127.0.0.1", 0)
    with pytest.raises(EvergreenError, match="is not HOST:PORT"):
        address_of("127.0.0.1:many")
    assert [is_loopback(one) for one in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.com")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_names_in_a_host_header():
    assert [host_name(one) for one in ("A.b:1", "[::1]:1", "a.", "")] == ["a.b", "::1", "a", ""]
    guard = Guard(None, ["dash.example.com"])
    assert guard.is_known_host("dash.example.com")
    assert not guard.is_known_host("example.com")
    assert guard.is_own_origin("https://dash.example.com", "127.0.0.1:9188")
    assert not guard.is_own_origin("http://localhost:1", "127.0.0.1:9188")


def test_secrets_of_two_guards_differ():
    one, other = Guard("t" * 20, []), Guard("t" * 20, [])
    assert one.session() != other.session()
    assert one.form_token() != other.form_token() != one.session()
    assert one.is_session(one.session())
    assert not one.is_session(None)
    assert not one.is_session("ü")
    assert Guard(None, []).is_session(None)


def test_requests_from_elsewhere():
    assert comes_from_elsewhere({"sec-fetch-site": "cross-site"})
    assert not comes_from_elsewhere({"sec-fetch-site": "same-origin"})
    assert not comes_from_elsewhere({})
