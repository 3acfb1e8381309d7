"""Shapes of work: seeded recordings of (seconds since the start, percent done), and errors of estimates."""

import math
import random
from collections.abc import Callable, Sequence
from statistics import fmean

from lg_streaming.pipeline.eta import EtaEstimator

Recording = list[tuple[float, float]]
Gaps = Callable[[random.Random, int], list[float]]


def noisy(chance: random.Random, spread: float = 0.3) -> float:
    """About 1, never 0."""
    return math.exp(chance.gauss(0.0, spread))


def constant(chance: random.Random, items: int) -> list[float]:
    """Every item takes the same time."""
    return [1.0] * items


def noise(chance: random.Random, items: int) -> list[float]:
    """The same on average."""
    return [noisy(chance, 0.5) for _ in range(items)]


def slowing(chance: random.Random, items: int) -> list[float]:
    """The last items take five times as long as the first."""
    return [(1.0 + 4.0 * n / items) * noisy(chance) for n in range(items)]


def speeding_up(chance: random.Random, items: int) -> list[float]:
    """The other way round: caches fill."""
    return [(5.0 - 4.0 * n / items) * noisy(chance) for n in range(items)]


def bursty(chance: random.Random, items: int) -> list[float]:
    """Batches of items, with waits between them."""
    gaps: list[float] = []
    while len(gaps) < items:
        gaps += [chance.uniform(5.0, 15.0), *(0.05 * noisy(chance) for _ in range(chance.randint(5, 15)))]
    return gaps[:items]


def bimodal(chance: random.Random, items: int) -> list[float]:
    """One item in five takes ten times as long."""
    return [(10.0 if chance.random() < 0.2 else 1.0) * noisy(chance) for _ in range(items)]


def two_phases(chance: random.Random, items: int) -> list[float]:
    """From somewhere in the middle on, items take five times as long, or a fifth."""
    change, factor = chance.randint(items // 4, 3 * items // 4), chance.choice([5.0, 0.2])
    return [(1.0 if n < change else factor) * noisy(chance) for n in range(items)]


def paused(chance: random.Random, items: int) -> list[float]:
    """One long wait somewhere."""
    pause = chance.randint(items // 5, 4 * items // 5)
    return [(0.3 * items if n == pause else 1.0) * noisy(chance) for n in range(items)]


def drifting(chance: random.Random, items: int) -> list[float]:
    """The pace wanders."""
    level, gaps = 0.0, list[float]()
    for _ in range(items):
        level += chance.gauss(0.0, 0.12)
        gaps.append(math.exp(level) * noisy(chance))
    return gaps


def half_cached(chance: random.Random, items: int) -> list[float]:
    """The first half is already there."""
    return [(0.001 if n < items // 2 else 1.0) * noisy(chance) for n in range(items)]


SHAPES: Sequence[Gaps] = (
    constant,
    noise,
    slowing,
    speeding_up,
    bursty,
    bimodal,
    two_phases,
    paused,
    drifting,
    half_cached,
)


def record(shape: Gaps, seed: int, items: int) -> Recording:
    """One recording of a shape."""
    at, recording = 0.0, Recording()
    for n, gap in enumerate(shape(random.Random(f"{shape.__name__} {seed}"), items), start=1):
        at += gap
        recording.append((at, 100.0 * n / items))
    return recording


def plain(recording: Recording) -> list[float]:
    """elapsed · rest / done, at each point."""
    return [at * (100.0 - percent) / percent for at, percent in recording]


def ours(recording: Recording) -> list[float]:
    """Return the estimates of `EtaEstimator` at each point."""
    estimate, said = EtaEstimator(), list[float]()
    estimate.observe(0.0, 0.0)
    for at, percent in recording:
        estimate.observe(at, percent)
        left = estimate.left(at)
        assert left is not None
        said.append(left)
    return said


def mean_error(said: list[float], recording: Recording) -> float:
    """The mean absolute error, as a part of the whole duration."""
    end = recording[-1][0]
    return fmean(abs(left - (end - at)) / end for left, (at, _) in zip(said, recording, strict=True))


def compare(shape: Gaps, seeds: Sequence[int], sizes: Sequence[int]) -> tuple[float, float]:
    """The mean errors of TimeLeft and of the plain estimate."""
    recordings = [record(shape, seed, items) for seed in seeds for items in sizes]
    return (
        fmean(mean_error(ours(recording), recording) for recording in recordings),
        fmean(mean_error(plain(recording), recording) for recording in recordings),
    )
