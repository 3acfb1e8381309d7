"""Globs over names: execution ids, node paths, node ids, agents, types of updates."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Globs", "matches"]


def matches(pattern: str, name: str) -> bool:
    """Return whether `pattern` matches `name`: `**` matches any run of characters, `*` one without `/`.

    The time grows with the length of the name, for every pattern: callers choose both.
    """
    if "*" not in pattern:
        return pattern == name
    return pattern == "**" or _compiled(pattern).matches(name)


class Globs:
    """Several globs, of which one has to match; one pass over a name decides for all.

    Args:
        patterns: The globs.
    """

    def __init__(self, patterns: Collection[str]) -> None:
        self._all = "**" in patterns
        self._names = frozenset(pattern for pattern in patterns if "*" not in pattern)
        self._wild = _automaton([pattern for pattern in patterns if "*" in pattern])

    def matches(self, name: str) -> bool:
        """Return whether one of them matches `name`."""
        return self._all or name in self._names or self._wild.matches(name)


@dataclass(frozen=True, slots=True)
class _Automaton:
    """A nondeterministic automaton of all globs, with one state for each element and a set of states in one int.

    A regular expression may backtrack for ever on a pattern that a caller chose; this automaton cannot. The globs lie
    side by side without a transition between them. In a set of states, bit `i` of a glob means that its first `i`
    elements have matched the text so far.
    """

    starts: int
    """The bit of each glob's first state."""
    letters: dict[str, int]
    """The bits of the elements that are this letter."""
    stars: int
    """The bits of the elements `*`."""
    globstars: int
    """The bits of the elements `**`."""
    accepting: int
    """The bit of each glob's last state."""

    def matches(self, text: str) -> bool:
        letters, stars, globstars = self.letters, self.stars, self.globstars
        wild = stars | globstars
        states = self.starts | (self.starts & wild) << 1
        for letter in text:
            stays = globstars if letter == "/" else wild
            states = (states & letters.get(letter, 0)) << 1 | (states & stays)
            states |= (states & wild) << 1  # a wildcard also matches nothing; two are never neighbours
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
