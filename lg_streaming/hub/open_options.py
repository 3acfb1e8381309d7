"""Checked options of a run that is opened or joined."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from lg_streaming.errors import BadRequestError
from lg_streaming.events import parse_priority, run_metadata
from lg_streaming.settings import IDLE_TIMEOUT
from lg_streaming.titles import line_of
from lg_streaming.values import has_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.events import Priority
    from lg_streaming.hub.options import IdleTimeout, Owner
    from lg_streaming.log.base import Opening

__all__ = ["OpenOptions", "owner_text"]


def owner_text(owner: object) -> str | None:
    """Return the owner as text, as it is compared with a token's ``sub``.

    Raises:
        BadRequestError: If the owner is empty, or neither text nor a whole number nor a UUID.
    """
    if owner is None:
        return None
    if isinstance(owner, str):
        text = str.__str__(owner)  # the value of an enumeration's member
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
    if has_lone_surrogates(text):
        raise BadRequestError(f"owner has a lone surrogate, which UTF-8 cannot encode: {text!r:.80}")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """Options of a run that is opened, or of the run that is open already."""

    owner: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    name: str | None = None
    """The name of the graph."""
    graph: str | None = None
    """The name of the graph; None for LangGraph's default."""
    title: str | None = None
    """The first question; a `title` in the metadata takes its place."""
    parent: Mapping[str, Any] | None = None
    """The execution, run, node and tool call in which the graph was called."""
    resumed_from: str | None = None
    """The run that it continues, which the log does not have any more."""
    thread_id: str | None = None
    """LangGraph's thread, where it is not the execution's id."""
    forked_from: Mapping[str, Any] | None = None
    """The execution and the checkpoint from which the run goes on in a new execution."""
    priority: Priority | None = None
    """The execution's priority; None leaves it unchanged."""
    idle_timeout: IdleTimeout = "default"
    """The execution's idle timeout; `"default"` leaves it unchanged."""
    join: bool = False
    """True if the caller joins the run."""
    fresh: bool = False
    """True if an open run is an error."""
    exclusive: bool = False
    """True if the log refuses the run while another process has an open one."""
    run_id: str | None = None
    """Id of the run that begins; None for a new one."""
    unless_ended: bool = False
    """True if the log refuses the run after an earlier one that has ended."""
    recorded: Mapping[str, Any] | None = None
    """Data of the `workflow_start` of a recorded run that is replayed; None for any other run."""

    @classmethod
    def from_arguments(
        cls,
        *,
        owner: Owner | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: str | None = None,
        idle_timeout: IdleTimeout = "default",
    ) -> Self:
        """Check the arguments of a program.

        Raises:
            BadRequestError: If the owner, the priority or the timeout cannot be used.
        """
        if idle_timeout != "default":
            IDLE_TIMEOUT.check("idle_timeout", idle_timeout, BadRequestError)
        return cls(
            owner=owner_text(owner),
            metadata=run_metadata(metadata),
            priority=None if priority is None else parse_priority(priority),
            idle_timeout=idle_timeout,
        )

    @property
    def opening(self) -> Opening:
        """The way in which a run is opened in the log."""
        if self.exclusive:
            return "exclusive"
        return "joins" if self.join else "first" if self.unless_ended else "any"

    @property
    def data(self) -> dict[str, Any]:
        """The part of them that the run's `workflow_start` contains."""
        if self.recorded is not None:
            return {name: value for name, value in self.recorded.items() if name != "run_id"}
        fields = {
            "metadata": dict(self.metadata),
            "name": self.name,
            "graph": self.graph,
            "title": line_of(self.metadata.get("title")) or self.title,
            "parent": self.parent,
            "resumed_from": self.resumed_from,
            "thread_id": self.thread_id,
            "forked_from": self.forked_from,
        }
        return {name: value for name, value in fields.items() if value}
