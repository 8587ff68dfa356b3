"""A row of figures as a row of bars."""

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(figures: Sequence[float], width: int) -> str:
    """Return the last ``width`` figures as bars, from zero to the largest of them."""
    shown = figures[-width:]
    top = max(shown, default=0.0)
    if top <= 0:
        return _BARS[0] * len(shown)
    return "".join(_BARS[min(len(_BARS) - 1, round(max(0.0, one) / top * (len(_BARS) - 1)))] for one in shown)
