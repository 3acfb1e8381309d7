"""Requests to runs: cancel them, answer their prompts, configure their nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from lg_streaming.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.errors import StreamingError
    from lg_streaming.hub.cancellation import RunCanceller
    from lg_streaming.hub.prompts import PromptManager
    from lg_streaming.hub.publisher import HubPublisher

__all__ = ["Recover", "RunControl"]

Recover = Callable[[str], Awaitable[bool]]
"""``await recover(execution_id)`` takes up a run that no process has, on any event loop.

It returns whether a repeated request may succeed: this process or another one has just taken the run up.
"""


class RunControl:
    """Control of the runs of this process. `HubFleet` extends it to those of other processes.

    Args:
        publisher: The publisher, with the decorators' defaults.
        canceller: Cancels runs.
        prompts: Answers prompts.
    """

    def __init__(self, publisher: HubPublisher, canceller: RunCanceller, prompts: PromptManager) -> None:
        self._publisher = publisher
        self._canceller = canceller
        self._prompts = prompts
        self.recover: Recover | None = None
        """Called for a run that no process has; None without a runner."""
        self.look_up: Callable[[str], Awaitable[None]] | None = None
        """Takes as long as `recover` does for an unknown execution; None without a runner."""

    async def restore(self, execution_id: str) -> bool:
        """Take up a run that no process has, if ``streaming.runs`` can; return whether its state may have changed.

        After a restart these are runs that wait for a human, and whose graph has a persistent checkpointer.

        Raises:
            LogUnavailableError: If the log cannot be reached.
        """
        return self.recover is not None and await self.recover(execution_id)

    async def opens(self, execution_id: str, prompt_id: str) -> bool:
        """Return whether a prompt that was not open may be answered after `restore`."""
        return await self.restore(execution_id) or self._prompts.is_open(execution_id, prompt_id)

    async def cancel(self, execution_id: str, reason: str | None = None, *, run_id: str | None = None) -> bool:
        """Cancel the open run; return whether one was open. See `StreamHub.cancel`."""
        if await self._canceller.cancel(execution_id, reason, run_id=run_id):
            return True
        if not await self.restore(execution_id):
            return False
        return await self._canceller.cancel(execution_id, reason, run_id=run_id)

    async def respond(
        self, execution_id: str, prompt_id: str, response: object, *, responder: str | None = None
    ) -> None:
        """Answer a prompt of the open run. See `StreamHub.respond`."""
        try:
            await self._prompts.respond(execution_id, prompt_id, response, responder=responder)
        except PromptError:
            if not await self.opens(execution_id, prompt_id):
                raise
            await self._prompts.respond(execution_id, prompt_id, response, responder=responder)

    def configure(self, execution_id: str, **options: Mapping[str, Any] | None) -> None:
        """Change the decorators' defaults of one execution. See `StreamHub.configure`."""
        self._publisher.configure(execution_id, **options)

    def refuse(self, execution_id: str, run_id: str, error: StreamingError) -> None:
        """Close a run here that another process holds, without an update, and call its handlers so that it stops."""
        execution = self._publisher.runs.registry.executions.get(execution_id)
        if execution is not None:
            self._canceller.abandon(execution, run_id, error)
