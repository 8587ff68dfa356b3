"""A circuit breaker as arithmetic: closed, resting after a failure, open, and half open for one probe.

Times are microseconds since 1970, as the shared state keeps them.
"""

from evergreen.core.frozen import frozen
from evergreen.core.retry import backoff

SECOND = 1_000_000
#: Instead of an end of the rest: one request goes to see, however many failed before; see ``try_once``.
TRY_ONCE = 2
# The end of a rest is even, and odd while a probe is under way: that keeps a second one from being let through.
_PROBING = 1


@frozen
class Policy:
    """Seconds to rest after the first failure, doubled with each that follows up to ``longest``.

    After ``threshold`` failures in a row the breaker is open: when it has rested, one request goes to see.
    """

    threshold: int
    first: float
    longest: float


#: An endpoint that does not answer, or says that it is busy.
ENDPOINT = Policy(threshold=3, first=0.5, longest=60.0)


#: A model that is set up wrongly: each further request would cost money and fail.
MODEL = Policy(threshold=1, first=5.0, longest=60.0)


@frozen
class Breaker:
    """Failures in a row, and until when nothing is sent."""

    failures: int
    open_until: int


CLOSED = Breaker(0, 0)


def wait(breaker: Breaker, now: int) -> int:
    """Microseconds until something may be sent."""
    return max(0, breaker.open_until - now)


def is_half_open(breaker: Breaker, policy: Policy, now: int) -> bool:
    """Return whether the next request is a probe."""
    return breaker.open_until == TRY_ONCE or (breaker.failures >= policy.threshold and now >= breaker.open_until)


def probing(breaker: Breaker, now: int, seconds: float) -> Breaker:
    """Keep other requests away while a probe is under way, or until it should have been."""
    return Breaker(breaker.failures, _until(now, seconds) - _PROBING)


def try_once(breaker: Breaker, now: int) -> Breaker:
    """End a rest for one request, which decides over the next; not while such a one is under way."""
    is_probing = bool(breaker.open_until & _PROBING)
    return breaker if not wait(breaker, now) or is_probing else Breaker(breaker.failures, TRY_ONCE)


def _until(now: int, seconds: float) -> int:
    return (now + round(seconds * SECOND)) & ~_PROBING


def failed(breaker: Breaker, policy: Policy, now: int, *, seen: int, probe: bool, jitter: float) -> Breaker:
    """Note a failure. Of several requests that were sent with as many failures ``seen``, the first to fail counts."""
    if breaker.failures != seen:
        return breaker
    seconds = backoff(seen, policy.first, policy.longest, jitter)
    until = _until(now, seconds)
    return Breaker(seen + 1, until if probe else max(breaker.open_until, until))


def tripped(breaker: Breaker, policy: Policy, now: int, *, seen: int, probe: bool, jitter: float) -> Breaker:
    """Note a failure that is proof: the breaker is open at once."""
    if breaker.failures != seen:
        return breaker
    most = max(seen, policy.threshold - 1)
    return failed(Breaker(most, breaker.open_until), policy, now, seen=most, probe=probe, jitter=jitter)


def paused(breaker: Breaker, now: int, seconds: float, *, probe: bool) -> Breaker:
    """Rest as long as the server asked: that is politeness, not a failure."""
    until = _until(now, seconds)
    return Breaker(breaker.failures, until if probe else max(breaker.open_until, until))
