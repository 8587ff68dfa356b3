"""How the benchmarks measure.

Every figure is a ratio against a baseline of the same run, because absolute speeds differ from machine to machine and
from minute to minute. The two sides take turns, several times, and the median of the rounds' ratios counts: a busy
moment then hits both, and one bad round hits neither. `make bench` prints each ratio with its aim and its range;
nothing fails because a machine is slow, only because the work that was timed was not done.
"""

import statistics
import time
from collections.abc import Callable, Mapping

Contender = Callable[[], float]
Rounds = list[dict[str, float]]


def timed(body: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    started = time.perf_counter()
    body()
    return time.perf_counter() - started


def take_turns(contenders: Mapping[str, Contender], rounds: int) -> Rounds:
    """Let every contender run once a round, in turn, and every other round in reverse; return what each returned."""
    names = list(contenders)
    return [
        {name: contenders[name]() for name in (names if number % 2 == 0 else reversed(names))}
        for number in range(rounds)
    ]


def report(title: str, unit: str, rounds: Rounds, aims: Mapping[str, float], baseline: str) -> None:
    """Print median figures, and the medians of the rounds' ratios to the baseline; more is better.

    Not every contender has an aim.
    """
    print(f"\n{title}, {unit}")
    for name in sorted(rounds[0], key=lambda name: name != baseline):
        figure = statistics.median(found[name] for found in rounds)
        ratios = sorted(found[name] / found[baseline] for found in rounds)
        print(f"  {name:<34}{figure:>10,.0f}", end="")
        if name == baseline:
            print("   baseline")
        else:
            aim = f"aim {aims[name]:.2f}" if name in aims else ""
            print(f"{statistics.median(ratios):>8.2f}   {aim:<8}   {ratios[0]:.2f} to {ratios[-1]:.2f}")
