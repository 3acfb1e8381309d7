"""Answer of a model, in each provider's format, for the stand-in servers."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool call, its arguments cut into the pieces in which they are streamed."""

    id: str
    name: str
    args: tuple[str, ...]

    @property
    def whole(self) -> str:
        """All of the arguments, as JSON."""
        return "".join(self.args)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Answer of a server to one request."""

    text: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    citation: str | None = None
    """The address of a page that the text cites."""
    refusal: str | None = None
    others: tuple[str, ...] = ()
    """Further answers of a request with ``n`` > 1."""
    cut_off: bool = False
    """The answer ends because it got too long."""
    tokens: tuple[int, int] = (11, 7)
    """Tokens of the prompt and of the answer."""
    fault: Literal["", "error", "drop"] = ""
    """End of a stream after `events` events: the provider's error event, or a dropped connection."""
    events: int = 3
    status: int = 200
    """Another status: the request is refused with the provider's error."""
    id: str = "1"
    headers: dict[str, str] = field(default_factory=dict[str, str])


RAIN = Turn(text=("It rains", " in the", " mountains."))
THOUGHT = Turn(reasoning=("Let me ", "think about it."), text=("It", " rains."))
CALLS = Turn(
    calls=(
        Call(id="call_one1", name="weather", args=('{"city": ', '"Paris", ', '"days": 3}')),
        Call(id="call_two2", name="weather", args=('{"city": "Bern"', ', "days": 1}')),
    )
)
TEXT_AND_CALLS = Turn(text=("Let me", " look."), calls=CALLS.calls)
"""Text, then calls of two tools."""
