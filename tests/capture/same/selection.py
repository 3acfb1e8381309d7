"""Select the cells of the table to run: the same ones each time, and every pair that is listed in `PAIRS`."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.capture.same.calls import WAYS
from tests.capture.same.models import MODELS
from tests.capture.same.observing import DECORATIONS, PLAIN
from tests.capture.same.shapes import SHAPES

DECORATED = [each for each in DECORATIONS if each != PLAIN]
_AT_ONCE = 4
_CANDIDATES = 80


@dataclass(frozen=True)
class Cell:
    """One graph with one model, called in one way, decorated in some ways."""

    shape: str
    model: str
    way: str
    decorations: tuple[str, ...]

    @property
    def is_determined(self) -> bool:
        """Return whether two plain runs are the same: of parallel calls any may be the one that fails first."""
        return not (SHAPES[self.shape].parallel and self.model.startswith("fails"))

    def pairs(self) -> set[tuple[str, str]]:
        """The pairs that it shows."""
        named: dict[str, list[str]] = {
            "shape": [f"shape={self.shape}"],
            "model": [f"model={self.model}"],
            "way": [f"way={self.way}"],
            "decoration": [f"decoration={name}" for name in self.decorations],
            "group": [f"group={self.way.split(' v')[0].replace(' subgraphs', '')}"],
        }
        return {(a, b) for one, other in PAIRS for a in named[one] for b in named[other]}


PAIRS = {
    ("shape", "model"),
    ("shape", "decoration"),
    ("model", "decoration"),
    ("way", "decoration"),
    ("way", "model"),
    ("shape", "group"),
}
"""Pairs of which every combination should run. The first four do, see `test_the_selection_covers_every_pair`."""


def selected(seed: int = 10) -> list[Cell]:
    """The cells that run every time."""
    chance = random.Random(seed)
    covered: set[tuple[str, str]] = set()
    cells = list[Cell]()
    for way in WAYS:
        decorations = chance.sample(DECORATED, len(DECORATED))
        for some in _split(decorations, _AT_ONCE):
            found = [_drawn(chance, way, tuple(some)) for _ in range(_CANDIDATES)]
            best = max((each for each in found if each.is_determined), key=lambda cell: len(cell.pairs() - covered))
            covered |= best.pairs()
            cells.append(best)
    return cells


def _drawn(chance: random.Random, way: str, decorations: tuple[str, ...]) -> Cell:
    return Cell(chance.choice(list(SHAPES)), chance.choice(list(MODELS)), way, decorations)


def _split(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


ALWAYS = [Cell(shape, "streaming", "astream_events v2", ("nodes", "graph", "capture=all")) for shape in SHAPES]
"""LangGraph drives every node by ``astream`` here, which nothing else makes it do."""

CELLS = [*selected(), *ALWAYS]
