"""How long the reader of the WAL rests where there was nothing: each reading starts a while back and costs it again."""

_SHORTEST = 0.02
_SHARE = 3  # times as long as a reading takes


class Rest:
    """Goes by what readings take, not by one that took long: a server that stood still is no reason to stand still."""

    def __init__(self) -> None:
        self._before = 0.0

    def after(self, took: float) -> float:
        """Return the seconds to rest after a reading that took so many."""
        usual, self._before = min(took, self._before), took
        return max(_SHORTEST, _SHARE * usual)
