"""Handle of a run that a client started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from lg_streaming.client.subscription import ClientSubscription
    from lg_streaming.events import StreamUpdate

__all__ = ["ClientRun", "StartOptions"]


class _Client(Protocol):
    """The client, see `StreamClient`."""

    def subscribe(self, execution_id: str, **options: Any) -> ClientSubscription: ...

    async def respond(self, execution_id: str, prompt_id: str, response: object) -> None: ...

    async def cancel(self, execution_id: str, *, reason: str | None = None) -> bool: ...


class StartOptions(TypedDict, total=False):
    """Options of `StreamClient.start`."""

    execution_id: str
    """The execution; a new one when not given. Only an own one, or one that the token names."""
    thread_id: str
    """LangGraph's thread; the execution's id when not given."""
    config: Mapping[str, Any]
    """``configurable`` with keys that the graph declares, ``recursion_limit``, ``tags``, ``metadata``."""
    context: Any
    """The graph's static context."""
    metadata: Mapping[str, Any]
    """Kept with the run, and sent with its ``workflow_start``."""
    if_running: Literal["reject", "enqueue", "cancel", "rollback"]
    """Handling of an execution that has an open run; ``reject`` when not given."""
    on_disconnect: Literal["continue", "cancel"]
    """``cancel``: the run is cancelled when all its readers have left; ``continue`` when not given."""
    deadline: float
    """Seconds after which the run fails, with its waits."""
    idempotency_key: str
    """A repeated start with the same key returns the run of the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRun:
    """Run that `StreamClient.start` began. It goes on without this client.

    ``async for update in run`` reads it from its first update to its end.
    """

    execution_id: str
    run_id: str
    thread_id: str
    state: str
    """State at the start: ``running``, or ``queued``."""
    position: str | None
    """Position before the run; None for the beginning of its execution."""
    client: _Client = field(repr=False)

    def updates(self, **options: Any) -> ClientSubscription:
        """Subscribe to the run, from its first update. Takes the options of `StreamClient.subscribe`."""
        options.setdefault("after", self.position)
        return self.client.subscribe(self.execution_id, **options)

    def __aiter__(self) -> AsyncIterator[StreamUpdate]:
        return aiter(self.updates())

    async def respond(self, prompt_id: str, response: object) -> None:
        """See `StreamClient.respond`."""
        await self.client.respond(self.execution_id, prompt_id, response)

    async def cancel(self, *, reason: str | None = None) -> bool:
        """See `StreamClient.cancel`."""
        return await self.client.cancel(self.execution_id, reason=reason)
