"""Globs over names with segments: execution ids, node paths, node ids, agents."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Globs", "matches"]


def matches(pattern: str, name: str) -> bool:
    """Whether the glob fits: `**` stands for any run of characters, `*` for one without `/`, all else for itself.

    Takes time in proportion to the name's length, whatever the pattern: callers choose both.
    """
    if "*" not in pattern:
        return pattern == name
    return pattern == "**" or _compiled(pattern).fits(name)


class Globs:
    """Several globs, of which any may fit; all are looked at in one go.

    Args:
        patterns: The globs.
    """

    def __init__(self, patterns: Collection[str]) -> None:
        self._all = "**" in patterns
        self._names = frozenset(pattern for pattern in patterns if "*" not in pattern)
        self._wild = _automaton([pattern for pattern in patterns if "*" in pattern])

    def fit(self, name: str) -> bool:
        """Whether one fits."""
        return self._all or name in self._names or self._wild.fits(name)


@dataclass(frozen=True, slots=True)
class _Automaton:
    """Globs as an automaton of one state per element, all states in the bits of one number.

    The globs lie side by side, and where one ends nothing leads on to the next. Bit `i` of a set of states, counted
    from where its glob begins: the first `i` elements of that have matched what was read so far.
    """

    starts: int

    letters: dict[str, int]
    """The elements that are this letter."""
    stars: int
    """The elements that are `*`."""
    globstars: int
    """The elements that are `**`."""
    accepting: int
    """Where they end."""

    def fits(self, text: str) -> bool:
        letters, stars, globstars = self.letters, self.stars, self.globstars
        wild = stars | globstars
        states = self.starts | (self.starts & wild) << 1
        for letter in text:
            stays = globstars if letter == "/" else wild
            states = (states & letters.get(letter, 0)) << 1 | (states & stays)
            states |= (states & wild) << 1  # a wildcard may also stand for nothing; two never stand side by side
            if not states:
                return False
        return bool(states & self.accepting)


@functools.lru_cache(maxsize=1_024)
def _compiled(pattern: str) -> _Automaton:
    return _automaton((pattern,))


def _automaton(patterns: Collection[str]) -> _Automaton:
    letters: dict[str, int] = {}
    starts = stars = globstars = accepting = 0
    bit = 1
    for pattern in patterns:
        starts |= bit
        for element in re.findall(r"\*+|[^*]", pattern, re.DOTALL):
            if element == "*":
                stars |= bit
            elif element.startswith("*"):
                globstars |= bit
            else:
                letters[element] = letters.get(element, 0) | bit
            bit <<= 1
        accepting |= bit
        bit <<= 1
    return _Automaton(starts=starts, letters=letters, stars=stars, globstars=globstars, accepting=accepting)
