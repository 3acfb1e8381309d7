"""Subject of one client's stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.gateway.dialects.agui.messages import Json

__all__ = ["Reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Subject of one client's stream.

    A reader of a thread gets a snapshot of ``values`` first. Then it gets what the log has of the open run and the
    snapshot does not have.
    """

    thread_id: str
    run_id: str
    """The client's own id of the run."""
    log_run_id: str | None
    """The run in the log whose updates are read; None for all."""
    is_modern: bool = True
    parent_run_id: str | None = None
    known: frozenset[str] = frozenset()
    """Ids of messages in the thread's state that the client has."""
    own: frozenset[str] = frozenset()
    """Ids of messages that the client has sent."""
    known_calls: Mapping[str, str] = field(default_factory=dict[str, str])
    """Ids of tool calls that were announced to the client, with those of their messages."""
    known_results: frozenset[str] = frozenset()
    """Ids of tool calls whose results the client has."""
    first_messages: Sequence[Sequence[Json]] = ()
    """Lists of messages that are sent first, each as a snapshot. A client keeps the order of the messages that it has,
    so that a page without the conversation needs it before its own message."""
    replays: bool = False
    """True for a reader of a thread; it ends at an interrupt only if the run waits there now."""
    values: Json | None = None
    """State of the thread before this reading, if it is known."""
    checkpoint_id: str = ""
    """Checkpoint of `values`."""
    custom_interrupts: bool = False
    """True to send ``CUSTOM`` events ``on_interrupt``, too."""
    waiting: Sequence[Json] | None = None
    """Prompts that the run waits for: the reading ends with them, and needs no updates."""
