"""Two ways to do the same, measured in turn in one process: what one run says of their ratio."""

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

PAIRS: Final = 15
_WARM_UP: Final = 2
_RESAMPLES: Final = 10_000
_SEED: Final = 5

Runs = dict[str, Callable[[], object]]
"""Ways to do something, by what they are called."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster ours is: the median over pairs of theirs / ours, and its 95 % interval.

    `low` and `high` are percentiles of the medians of resampled pairs (bootstrap, seeded); `ours_s` and
    `theirs_s` are the medians of the seconds of one call.
    """

    median: float
    low: float
    high: float
    ours_s: float
    theirs_s: float
    pairs: int

    def describe(self) -> dict[str, Any]:
        """For a results file: ratios to three places, seconds to a microsecond."""
        places = {"ours_s": 6, "theirs_s": 6}
        return {
            name: round(value, places.get(name, 3)) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def compare(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    pairs: int = PAIRS,
    *,
    calls: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> Ratio:
    """Call both in turn, `pairs` times, the one that goes first taking turns as well.

    `calls` in a row make one measurement, for what takes less than some milliseconds. The clock is the CPU
    time of all threads of this process, so that a neighbour on the machine costs neither (but for caches and
    memory that are shared); give `time.perf_counter` where a device computes.
    """
    for _ in range(_WARM_UP):
        ours()
        theirs()
    measured = [_measure_pair(ours, theirs, calls, clock, ours_first=pair % 2 == 0) for pair in range(pairs)]
    return ratio_of([pair[0] for pair in measured], [pair[1] for pair in measured])


def measure_in_turn(
    runs: Runs, rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of each, a round beginning with another one every time; the first round is not counted."""
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(rounds + 1):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            before = clock()
            runs[name]()
            seconds[name].append(clock() - before)
        sys.stderr.write(f"round {round_} of {rounds}\n")
    return {name: taken[1:] for name, taken in seconds.items()}


def ratio_of(ours_s: list[float], theirs_s: list[float]) -> Ratio:
    """The ratio of times that were measured in turn, pair by pair."""
    ratios = np.array(theirs_s) / np.array(ours_s)
    chosen = np.random.default_rng(_SEED).integers(len(ratios), size=(_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[chosen], axis=1), (2.5, 97.5))
    return Ratio(
        median=float(np.median(ratios)),
        low=float(low),
        high=float(high),
        ours_s=statistics.median(ours_s),
        theirs_s=statistics.median(theirs_s),
        pairs=len(ratios),
    )


def use_one_core() -> int:
    """Keep this process, and all threads it starts from now on, on one core; returns its number.

    Call it before a library starts its threads (torch, OpenMP): those that run already stay where they are.
    """
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def _measure_pair(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    calls: int,
    clock: Callable[[], float],
    *,
    ours_first: bool,
) -> tuple[float, float]:
    in_turn = (ours, theirs) if ours_first else (theirs, ours)
    # a collection would be charged to whichever happens to trigger it
    gc.collect()
    gc.disable()
    try:
        times = [clock()]
        for run in in_turn:
            for _ in range(calls):
                run()
            times.append(clock())
    finally:
        gc.enable()
    first, second = ((after - before) / calls for before, after in pairwise(times))
    return (first, second) if ours_first else (second, first)
