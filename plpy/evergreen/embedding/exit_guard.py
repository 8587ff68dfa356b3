"""A session may end while its requests are under way: they end first, or the server would crash.

A backend leaves by exit(), which runs the handlers of the libraries and no Python. That of OpenSSL frees what a thread
may just be using: a segmentation fault, for which the postmaster restarts every session (seen in 2 to 9 tries when a
session ended in its first request). Handlers run last in, first out: this one comes before those of the libraries.

A process that finalizes Python before it exits, as a test run does, would call the handler without a Python to run it
(a segmentation fault again): there it is run, and so struck off the list, while Python ends.
"""

import atexit
import ctypes
from concurrent.futures import Future, wait
from functools import cache
from typing import Any

from evergreen.core.embedding import RequestCanceller

_EXIT_TIMEOUT_S = (
    3.0  # seconds: a request that was cut needs milliseconds, a look-up of certificates a tenth of a second
)
_under_way: dict[Future[Any], RequestCanceller] = {}
_owner = ctypes.c_char()  # its address names the handler among those of other libraries


def watch(future: Future[Any], canceller: RequestCanceller) -> None:
    """End a request, should the process end before it does."""
    _register()
    _under_way[future] = canceller
    future.add_done_callback(lambda done: _under_way.pop(done, None))


def end(cancellers: dict[Future[Any], RequestCanceller], timeout: float) -> None:
    """Cut requests and wait for them to end, not for ever."""
    for canceller in cancellers.values():
        canceller.cancel()
    wait(cancellers, timeout=timeout)


def _at_exit(_: int | None) -> None:
    end(dict(_under_way), _EXIT_TIMEOUT_S)


_handler = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_at_exit)


@cache
def _register() -> None:
    libc, owner = ctypes.CDLL(None), ctypes.byref(_owner)
    getattr(libc, "__cxa_atexit")(_handler, None, owner)
    atexit.register(getattr(libc, "__cxa_finalize"), owner)
