"""Answers of the offline model to the demo's default question."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One researcher's part: question, searches, calculations and finding."""

    question: str
    searches: tuple[str, ...]
    sums: tuple[str, ...]
    finding: str


PLAN_THOUGHT = (
    "The question asks for ways to cool a city, so I need the causes of the heat first. Then the two things a city "
    "can change at scale: what grows in it, and what it is paved and roofed with."
)

STUDIES = (
    Study(
        question="Why is a city hotter than the country around it?",
        searches=("why cities are hotter by day", "hot nights"),
        sums=("(1 + 3) / 2",),
        finding=(
            "A city is hotter because its dark roofs and roads store the sun and give it back after dusk, while bare "
            "ground has no water to cool the air with. By day the difference is 0.5 to 4 °C. At night it is 1 to 3 °C, "
            "about 2 °C in the middle of that range, and the nights matter most: people and buildings cannot recover."
        ),
    ),
    Study(
        question="How much do trees and parks cool a street?",
        searches=("shade of trees along a street",),
        sums=("(11 + 25) / 2",),
        finding=(
            "Trees work twice. In their shade, surfaces are 11 to 25 °C cooler than in the sun, 18 °C in the middle of "
            "that range, and the water that leaves give off cools the air itself. Together they take 1 to 5 °C off a "
            "summer peak. They help most where the ground is bare: streets, car parks and school yards."
        ),
    ),
    Study(
        question="What do lighter roofs and pavements change?",
        searches=("light and dark roofs", "asphalt and concrete pavements"),
        sums=("65 - 28", "35 / 5"),
        finding=(
            "A dark roof can reach 65 °C in full sun; one that reflects the light stays 28 °C cooler, near 37 °C. A "
            "planted roof cools nearly as well and holds rain, if the building can carry it. On the ground, new "
            "concrete reflects 35 percent of the sunlight or more, seven times as much as fresh asphalt."
        ),
    ),
)

FIRST_DRAFT = """\
A city can be kept cooler by changing what the sun falls on.

Dark roofs and roads store the sun by day and release it at night, so after dusk a city is 1 to 3 °C hotter than the \
country around it.

Trees help twice. Shaded ground is 11 to 25 °C cooler than ground in the sun, and leaves cool the air by giving off \
water. Together they take 1 to 5 °C off a summer peak.

Roofs and roads can be made lighter. A dark roof can reach 65 °C, and one that reflects the light stays about 28 °C \
cooler. New concrete reflects seven times as much sunlight as fresh asphalt.

All of this pays for itself within a few years."""

REMARKS = (
    "REVISE. The figures match the findings, but the last sentence does not: nothing in them speaks of money. Take it "
    "out. The reader also wants to know what to do first, so put the measures in an order and give the reason for each."
)

REVISED_DRAFT = """\
A city can be kept cooler by changing what the sun falls on. It should begin where people are hottest.

The heat comes from dark roofs and roads, which store the sun by day and give it back at night. After dusk a city is \
1 to 3 °C hotter than the country around it, and those nights do the most harm, because nobody recovers in them.

First, shade. Plant trees along streets, in car parks and school yards, where the ground is bare. Shaded surfaces are \
11 to 25 °C cooler than those in the sun, and with the water that leaves give off, summer peaks fall by 1 to 5 °C. \
Trees need years to grow, so they come first.

Second, roofs. When one is due for repair, make it light: a dark roof can reach 65 °C, and one that reflects the sun \
stays about 28 °C cooler. Where the building can carry it, plant the roof instead, and it holds rain as well.

Third, the ground. When a road or a yard is laid again, choose a lighter surface. New concrete reflects about seven \
times as much sunlight as fresh asphalt.

None of the three needs power to run."""

APPROVAL = "APPROVED. The unfounded sentence is gone, the measures come in order, and each has its reason."

EDITOR_NOTE = "The offline model cannot rewrite freely, so it adds what the editor asked for: "

NOTHING_KNOWN = (
    "The offline model knows only its small library, on how cities stay cool, and that holds nothing on this question. "
    "Name a model with --model provider:name for an answer."
)
PLAIN_OPENING = "This is what the library holds on the question."
PLAIN_REMARKS = "REVISE. The draft begins without saying where it comes from. Open with one sentence on that."
PLAIN_APPROVAL = "APPROVED. It says where it comes from and adds nothing to the findings."
