"""Globs over execution ids."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

__all__ = ["matches"]


def matches(pattern: str, execution_id: str) -> bool:
    """Whether the glob fits: `**` stands for any run of characters, `*` for one without `/`, all else for itself.

    Takes time in proportion to the id's length, whatever the pattern: callers choose both.
    """
    if "*" not in pattern:
        return pattern == execution_id
    return pattern == "**" or _compiled(pattern).fits(execution_id)


@dataclass(frozen=True, slots=True)
class _Glob:
    """A glob as an automaton of one state per element, all states in the bits of one number.

    Bit `i` of a set of states: the first `i` elements of the pattern have matched what was read so far.
    """

    letters: dict[str, int]
    """The elements that are this letter."""
    stars: int
    """The elements that are `*`."""
    globstars: int
    """The elements that are `**`."""
    accepting: int

    def fits(self, text: str) -> bool:
        letters, stars, globstars = self.letters, self.stars, self.globstars
        wild = stars | globstars
        states = 1 | (1 & wild) << 1
        for letter in text:
            stays = globstars if letter == "/" else wild
            states = (states & letters.get(letter, 0)) << 1 | (states & stays)
            states |= (states & wild) << 1  # a wildcard may also stand for nothing; two never stand side by side
            if not states:
                return False
        return bool(states & self.accepting)


@functools.lru_cache(maxsize=1_024)
def _compiled(pattern: str) -> _Glob:
    letters: dict[str, int] = {}
    stars = globstars = index = 0
    for element in re.findall(r"\*+|[^*]", pattern, re.DOTALL):
        bit = 1 << index
        index += 1
        if element == "*":
            stars |= bit
        elif element.startswith("*"):
            globstars |= bit
        else:
            letters[element] = letters.get(element, 0) | bit
    return _Glob(letters, stars, globstars, 1 << index)
