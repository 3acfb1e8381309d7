"""Requests to runs: cancel them, answer their prompts, configure their nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.hub.cancellation import RunCanceller
    from lg_streaming.hub.prompts import PromptManager
    from lg_streaming.hub.publisher import HubPublisher

__all__ = ["RunControl"]


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

    async def cancel(self, execution_id: str, reason: str | None = None) -> bool:
        """Cancel the open run; return whether one was open. See `StreamHub.cancel`."""
        return await self._canceller.cancel(execution_id, reason)

    async def respond(
        self, execution_id: str, prompt_id: str, response: object, *, responder: str | None = None
    ) -> None:
        """Answer a prompt of the open run. See `StreamHub.respond`."""
        await self._prompts.respond(execution_id, prompt_id, response, responder=responder)

    def configure(self, execution_id: str, **options: Mapping[str, Any] | None) -> None:
        """Change the decorators' defaults of one execution. See `StreamHub.configure`."""
        self._publisher.configure(execution_id, **options)
