"""Parts that the benchmarks' graphs share."""

from typing import TypedDict


class State(TypedDict):
    topic: str
    text: str
