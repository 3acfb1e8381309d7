"""Messages between the gateways of a fleet: to clients of other processes, and revocations."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import orjson

from lg_streaming.fork import bury, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.gateway.session.context import GatewayContext
    from lg_streaming.log.fleet import Fleet

__all__ = ["FleetLink"]

logger: logging.Logger = logging.getLogger(__name__)

_INTERVAL: Final = 15.0
"""Seconds between two reads of the revocations, without heartbeats."""
_MESSAGE: Final = "message"


class FleetLink:
    """Connection of one gateway to the gateways of other processes.

    Args:
        fleet: The processes.
        context: The gateway's state.
        send: ``send(connection_id, type, content)`` sends a message to a connection of this process, if it has it.
    """

    def __init__(
        self, fleet: Fleet, context: GatewayContext, send: Callable[[str, str, orjson.Fragment], bool]
    ) -> None:
        self._fleet = fleet
        self._context = context
        self._send = send
        self._task: asyncio.Task[None] | None = None
        fleet.on_message(_MESSAGE, self._on_message)
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Drop the task of the parent process."""
        bury(self._task)
        self._task = None

    def send_to(self, connection_id: str, type: str, content: bytes) -> None:
        """Send a message to a connection that another process may have. Returns at once."""
        self._fleet.publish(_MESSAGE, {"connection_id": connection_id, "type": type, "content": content.decode()})

    def _on_message(self, payload: Any) -> None:
        self._send(payload["connection_id"], payload["type"], orjson.Fragment(payload["content"]))

    async def load(self) -> None:
        """Read the revocations, before the first client is admitted."""
        shared = self._context.policy.shared_revocations
        if shared is not None:
            await shared.load()

    def start(self) -> None:
        """Read the revocations twice in each heartbeat interval. Called on the server's event loop."""
        self._task = asyncio.create_task(self._run(), name="lg-streaming revocations")

    async def stop(self) -> None:
        """End the reads."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        interval = self._context.settings.gateway.heartbeat_interval or _INTERVAL
        while True:
            try:
                await self.load()
            except Exception:
                logger.exception("revocations could not be read")
            await asyncio.sleep(interval / 2)
