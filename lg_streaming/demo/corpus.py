"""Library of the demo's researchers: a few passages, written for the demo."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = re.compile(r"[a-z]{3,}")
_COMMON = frozenset(
    _WORD.findall(
        "about and are can for from how into its more most much near not out that the them there these they this "
        "was were what when where which who why will with without",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One short text of the library."""

    title: str
    text: str


LIBRARY = (
    Passage(
        title="Why cities are hotter",
        text=(
            "Dark roofs and roads take in sunlight by day and give the warmth back at night. Streets between tall "
            "buildings let heat out slowly, and bare ground holds no water to cool the air. By day a city is about "
            "0.5 to 4 °C hotter than the country around it."
        ),
    ),
    Passage(
        title="Hot nights",
        text=(
            "At night cities stay about 1 to 3 °C hotter than the country around them. Hot nights do the most harm, "
            "because people and buildings cannot recover before the next day."
        ),
    ),
    Passage(
        title="Shade of trees",
        text=(
            "Surfaces in the shade of trees can be 11 to 25 °C cooler than the hottest surfaces in the sun. Trees help "
            "most where the ground is bare: along a street, in car parks and school yards."
        ),
    ),
    Passage(
        title="Water from leaves",
        text=(
            "Trees and other plants draw water from the soil and give it off through their leaves, which cools the "
            "air. Shade and leaves together can lower summer peaks in a street or park by 1 to 5 °C."
        ),
    ),
    Passage(
        title="Dark and light roofs",
        text=(
            "In full summer sun a dark roof can reach 65 °C. Roofs with a light, reflecting surface can stay about "
            "28 °C cooler under the same sun, and the rooms below stay cooler with them."
        ),
    ),
    Passage(
        title="Planted roofs",
        text=(
            "The surface of planted roofs can be 16 to 22 °C cooler than that of bare dark ones. They hold rain as "
            "well, but the building must be able to carry the weight of the wet soil."
        ),
    ),
    Passage(
        title="Roads and pavements",
        text=(
            "Fresh asphalt pavements reflect about 5 percent of the sunlight; new concrete reflects 35 to 40 percent. "
            "Asphalt grows lighter with the years and concrete darker, so the difference shrinks."
        ),
    ),
    Passage(
        title="Green corridors in Medellín",
        text=(
            "Medellín planted thirty green corridors along its roads and streams. The city reports about 2 °C less "
            "heat where they have grown."
        ),
    ),
)
"""All passages. The figures are rounded from public guidance on urban heat."""


def search(query: str, *, limit: int = 2) -> list[Passage]:
    """Return the passages that share most words with `query`, best first.

    A word of the title counts twice. Passages without a common word are left out.
    """
    words = _words(query)
    scored = [(len(words & _words(entry.title)) + len(words & _words(entry.text)), entry) for entry in LIBRARY]
    found = sorted((pair for pair in scored if pair[0]), key=lambda pair: -pair[0])
    return [passage for _, passage in found[:limit]]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _COMMON
