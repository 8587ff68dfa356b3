"""How all workers of a process come to an end: each is told at once, whatever it waits for."""

import os
import threading


class Stopping:
    """Set once and for good; ``fd`` becomes readable then, for whoever waits on a socket, too."""

    def __init__(self) -> None:
        self.fd, self._other_end = os.pipe()
        self._event = threading.Event()

    def begin(self) -> None:
        """Tell everybody; may be called from a signal handler."""
        if not self._event.is_set():
            self._event.set()
            os.write(self._other_end, b"x")  # never read, so that all who wait see it

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait until it begins, or so long; True when it has begun."""
        return self._event.wait(seconds)
