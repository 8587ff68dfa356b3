"""The learned capacity of a server: seconds a text, the largest request it takes, and its current load.

A server may embed its texts one after another, so the texts in flight of all sessions must fit into the time limit:
that is the window. A server that works in parallel keeps within it, too, because each request gets at most its share
of ``max_in_flight``. Times are microseconds, as in the shared state.
"""

from dataclasses import replace

from evergreen.core.embedding import Limits
from evergreen.core.frozen import frozen

SECOND = 1_000_000
_SHARE = 0.8  # of the time limit, for the work in flight
_INITIAL_WINDOW = 24  # texts in flight at an unknown server
_CLOSE = 0.3  # of the limit: shorter answers say little about long ones, which matter
_CHANGED = 0.2  # relative change of the seconds a text that is worth storing
_EXACT = 8  # a size is exact enough when its error is below 1/8 of it
_AGAIN, _LONGEST = 5, 600  # seconds until a failed size is tried again, doubled with each failure
_DOUBLINGS = 15
_TICK = 4  # seconds: the resolution of the stored retry time
_AMPLE, _MIN_TIMEOUT_S = 20, 2.0  # multiple of the learned time; seconds
_LATE_S = 5  # seconds a request may exceed its limit
_SIZE_BITS, _LARGEST = 14, (1 << 14) - 1
_BITS = 18
_MOST = (1 << _BITS) - 1
_MILLISECOND = 1000


@frozen
class Capacity:
    """``text``: microseconds a text, 0 while unknown. ``good``: texts in the largest request that passed.

    A server that fails now and then, whatever the size, is told from one that fails on a size by trying the size again:
    soon at first, then more and more rarely.
    """

    text: int = 0
    good: int = 0  # 0 while none was too large
    bad: int = 0  # texts in the smallest request that failed while its parts passed; more when it is tried again
    failed: int = 0  # as it was when it failed
    failures: int = 0  # in a row
    again_at: int = 0  # seconds since 1970

    @property
    def trial(self) -> int:
        """The size to try next, half-way between what passed and what failed; ``good`` when they are close."""
        step = (self.bad - self.good) // 2
        return self.good + step if step > self.good // _EXACT else self.good

    @property
    def sizes(self) -> int:
        """What was learned of sizes as one number."""
        when = (self.again_at // _TICK) << _SIZE_BITS * 2 + 4 | self.failures << _SIZE_BITS * 2
        return when | min(self.good, _LARGEST) << _SIZE_BITS | min(self.failed, _LARGEST)


def read(text: int, sizes: int, now: int) -> Capacity:
    """Read what was written down; what failed a while ago may pass now."""
    good, failed = sizes >> _SIZE_BITS & _LARGEST, sizes & _LARGEST
    failures, again_at = sizes >> _SIZE_BITS * 2 & _DOUBLINGS, (sizes >> _SIZE_BITS * 2 + 4) * _TICK
    bad = max(failed, 4 * good) if now // SECOND >= again_at else failed
    return Capacity(text, good, bad, failed, failures, again_at)


def window(found: Capacity, limit: float) -> int:
    """Return how many texts may be under way at a server whose time limit is so many seconds."""
    return max(1, int(limit * _SHARE * SECOND / found.text)) if found.text else _INITIAL_WINDOW


def is_slow(found: Capacity, limit: float, max_texts: int) -> bool:
    """Return whether to limit the texts in flight, because two requests of the maximum size would time out."""
    return window(found, limit) < 2 * max_texts


def largest(found: Capacity, limits: Limits, limit: float) -> int:
    """Return how many texts a request may hold."""
    size = min(found.trial or limits.inputs, limits.inputs)
    return min(size, max(1, window(found, limit) // limits.in_flight)) if found.text else size


def a_text(found: Capacity, limit: float) -> float:
    """Return the milliseconds that a text takes, or is taken to take at first."""
    return (found.text or limit * _SHARE * SECOND / _INITIAL_WINDOW) / _MILLISECOND


def expected_timeout(found: Capacity, texts: int, ahead: int) -> float:
    """Return the seconds after which a working server would have answered; inf while nothing is known of it."""
    if not found.text:
        return float("inf")
    return max(_MIN_TIMEOUT_S, _AMPLE * found.text * (texts + ahead) / SECOND)


def work(found: Capacity, limit: float, texts: int) -> int:
    """Return the milliseconds that so many texts take, as they are counted."""
    return min(_MOST, max(1, round(texts * a_text(found, limit))))


def room(found: Capacity, limit: float, under_way: int) -> int:
    """Return how many texts there is room for next to so many milliseconds of work; a single text always may go."""
    left = window(found, limit) - under_way / a_text(found, limit)
    return max(0 if under_way else 1, round(left))


def measured(found: Capacity, limit: float, seconds: float, texts: int, ahead: int) -> Capacity:
    """Note how long an answer took, with so many texts queued before it."""
    sample = max(1, round(seconds * SECOND / (texts + ahead)))
    if found.text and sample > found.text and seconds < _CLOSE * limit:
        return found  # mostly what any request takes, however few its texts
    is_news = not found.text or abs(sample - found.text) > _CHANGED * found.text
    is_sure = not found.text or (sample < found.text and not ahead)
    return replace(found, text=sample if is_sure else (sample + found.text) // 2) if is_news else found


def outgrown(found: Capacity, size: int, good: int, now: int) -> Capacity:
    """Note that a request was too large, and that parts of it passed."""
    known = found.good if found.good < size else 0
    smallest = min(size, found.failed) if found.failed else size
    failures = min(_DOUBLINGS, found.failures + 1) if size >= found.failed else found.failures
    again_at = now // SECOND + min(_LONGEST, _AGAIN << max(0, failures - 1))
    return replace(found, good=max(known, good), bad=smallest, failed=smallest, failures=failures, again_at=again_at)


def passed(found: Capacity, size: int) -> Capacity:
    """Note that a request passed; one as large as what failed shows that it was not the size."""
    if not 0 < found.good < size:
        return found
    if size >= found.failed:
        return replace(found, good=size, bad=max(found.bad, 4 * size), failed=size + 1, failures=0)
    return replace(found, good=size)


def period(now: int, limit: float) -> int:
    """Number a period as long as the time limit: requests sent two periods ago are over, even if their session died."""
    return now // round((limit + _LATE_S) * SECOND) & ((1 << 26) - 1)


def under_way(value: int, at: int) -> int:
    """Return the milliseconds of work under way."""
    return sum(_counts(value, at))


def book(value: int, at: int, booked_at: int, amount: int) -> int:
    """Add the work of a request that starts, or subtract (a negative amount) what was booked in a period."""
    current, before = _counts(value, at)
    if booked_at == at:
        current = max(0, min(_MOST, current + amount))
    elif booked_at == at - 1:
        before = max(0, min(_MOST, before + amount))
    return at << 2 * _BITS | current << _BITS | before


def _counts(value: int, at: int) -> tuple[int, int]:
    since = value >> 2 * _BITS
    current, before = value >> _BITS & _MOST, value & _MOST
    return (current, before) if since == at else (0, current) if since == at - 1 else (0, 0)
