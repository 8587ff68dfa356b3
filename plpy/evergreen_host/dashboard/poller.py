"""The only part that looks at the database by itself: one session and one look for all browsers."""

import threading
import time
from dataclasses import dataclass, replace

from evergreen_host.backoff import Backoff
from evergreen_host.dashboard import figures
from evergreen_host.dashboard.figures import Figures, Slow
from evergreen_host.dashboard.history import History
from evergreen_host.dashboard.link import Link
from evergreen_host.errors import EvergreenError

_EVERY_S, _UNSEEN_EVERY_S = 2.0, 10.0  # between two looks, with and without a browser
_SLOW_EVERY_S = 15.0
_SEEN_FOR_S = 30.0
_SHARE = 20  # looks take at most a twentieth of the time
_MOST_WANTED = 20
_HANGS_S = 15.0  # a look takes this long only when nothing is answered any more
_LONGEST_S = 5.0  # between two attempts to reach a database that is lost


@dataclass(frozen=True)
class State:
    """What pages show: the last figures, and since when and why there are no newer ones."""

    number: int = 0
    figures: Figures | None = None
    error: str | None = None
    lost_at: float | None = None


class Poller:
    """Looks again and again, in a thread."""

    def __init__(self, link: Link) -> None:
        self.history = History()
        self._link = link
        self._state = State()
        self._slow: Slow | None = None
        self._slow_until = 0.0
        self._seen_at = time.monotonic()
        self._wanted: dict[str, float] = {}
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._stopped = False
        self._looking = False
        self._looking_since = 0.0
        self._backoff = Backoff()

    @property
    def every(self) -> float:
        """Seconds between two looks, while a browser is there and the database is quick."""
        return _EVERY_S

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="poller", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        self._wake.set()
        self._link.close()

    def state(self) -> State:
        """Return what is known; a browser is there, so looks are frequent."""
        was_seen = time.monotonic() - self._seen_at < _SEEN_FOR_S
        self._seen_at = time.monotonic()
        if not was_seen:
            self._wake.set()
        waited = time.monotonic() - self._looking_since if self._looking else 0.0
        if waited < _HANGS_S or self._state.error is not None:
            return self._state
        error = f"it has not answered a query for {_HANGS_S:.0f} s"
        return replace(self._state, number=-self._state.number, error=error, lost_at=time.time() - waited)

    def want(self, pipeline: str) -> State:
        """Return what is known with a pipeline's dead letters, which are read while a page shows them."""
        with self._changed:
            self._wanted[pipeline] = time.monotonic() + _SEEN_FOR_S
        state = self.state()
        figures = state.figures
        if figures is None or state.error or pipeline in figures.failures or figures.of(pipeline) is None:
            return state
        return self.refresh(slow=False)

    def _still_wanted(self) -> list[str]:
        now = time.monotonic()
        with self._changed:
            self._wanted = {name: until for name, until in self._wanted.items() if until > now}
            return list(self._wanted)[-_MOST_WANTED:]

    def refresh(self, *, slow: bool = True) -> State:
        """Look now, because something was changed; return what is known then."""
        with self._changed:
            target = self._state.number + (2 if self._looking else 1)  # a look under way may have seen too little
            if slow:
                self._slow_until = 0.0
            self._wake.set()
            self._changed.wait_for(lambda: self._state.number >= target, timeout=_LONGEST_S)
        return self.state()

    def first(self, timeout: float) -> State:
        """Wait for the first look, as a page that is opened at the start does."""
        with self._changed:
            self._changed.wait_for(lambda: self._state.number > 0, timeout=timeout)
        return self.state()

    def _run(self) -> None:
        while not self._stopped:
            self._wake.clear()
            pause = self._look()
            self._wake.wait(pause)

    def _look(self) -> float:
        """Look once; return the seconds until the next look."""
        self._looking, self._looking_since = True, time.monotonic()
        try:
            now = time.monotonic()
            kept = self._slow if now < self._slow_until else None
            wanted = self._still_wanted()
            found = self._link.run(lambda database: figures.read(database, kept, wanted))
        except EvergreenError as error:
            lost_at = self._state.lost_at or time.time()
            self._publish(State(self._state.number + 1, self._state.figures, str(error), lost_at))
            return min(_LONGEST_S, self._backoff.next_delay())
        self._backoff.reset()
        if kept is None:
            self._slow, self._slow_until = found.slow, now + max(_SLOW_EVERY_S, _SHARE * (time.monotonic() - now))
        self.history.add(found.status, found.at)
        self._publish(State(self._state.number + 1, found))
        is_seen = time.monotonic() - self._seen_at < _SEEN_FOR_S
        return max(_EVERY_S if is_seen else _UNSEEN_EVERY_S, _SHARE * found.took)

    def _publish(self, state: State) -> None:
        with self._changed:
            self._looking = False
            self._state = state
            self._changed.notify_all()
