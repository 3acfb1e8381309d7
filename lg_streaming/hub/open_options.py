"""How a run is to be opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import UUID

from lg_streaming.errors import BadRequestError
from lg_streaming.events import parse_priority, run_metadata
from lg_streaming.settings import IDLE_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.events import Priority

__all__ = ["IdleTimeout", "OpenOptions", "Owner", "owner_text"]

Owner = str | int | UUID
"""Who owns an execution: the text that tokens have as `sub`. A whole number or a UUID counts as its text."""

IdleTimeout = float | Literal["default"] | None
"""Seconds after which a run ends in which nothing happens; None or 0 for never, `"default"` for the setting's."""


def owner_text(owner: object) -> str | None:
    """The owner as text, as it is compared with a token's ``sub``.

    Raises:
        BadRequestError: It is neither text nor a whole number nor a UUID, or it is empty.
    """
    if owner is None:
        return None
    if isinstance(owner, str):
        text = str.__str__(owner)  # an enumeration's member is its value
    elif isinstance(owner, UUID):
        text = str(UUID(int=owner.int))
    elif not isinstance(owner, bool) and isinstance(owner, Integral):
        text = str(int(owner))
    else:
        raise BadRequestError(
            f"owner is a text, a whole number or a UUID, not {owner!r:.80}: give what the owner's tokens have as `sub`"
        )
    if not text:
        raise BadRequestError("owner is an empty text: leave it out where an execution has no owner")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """What is wanted of a run that is opened, or of the one that is open already."""

    owner: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    name: str | None = None
    """The graph's."""
    parent: Mapping[str, Any] | None = None
    """The execution, run, node and tool call in which the graph was called."""
    priority: Priority | None = None
    """None: as it is."""
    idle_timeout: IdleTimeout = "default"
    """`"default"`: as it is."""
    join: bool = False
    """Whether to take part in the run."""
    fresh: bool = False
    """Whether no run may be open."""

    @classmethod
    def of(
        cls,
        owner: Owner | None,
        metadata: Mapping[str, Any] | None,
        priority: str | None,
        idle_timeout: IdleTimeout,
        *,
        fresh: bool = False,
    ) -> Self:
        """What a program asks for, checked.

        Raises:
            BadRequestError: The owner, the priority or the timeout cannot be used.
        """
        if idle_timeout != "default":
            IDLE_TIMEOUT.check("idle_timeout", idle_timeout, BadRequestError)
        return cls(
            owner=owner_text(owner),
            metadata=run_metadata(metadata),
            priority=None if priority is None else parse_priority(priority),
            idle_timeout=idle_timeout,
            fresh=fresh,
        )

    @property
    def data(self) -> dict[str, Any]:
        """What is told of it in the run's `workflow_start`."""
        told = {"metadata": dict(self.metadata), "name": self.name, "parent": self.parent}
        return {name: value for name, value in told.items() if value}
