"""Authorize a reader again after its execution has changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from lg_streaming.errors import ForbiddenError

if TYPE_CHECKING:
    from lg_streaming.log.base import LogState

__all__ = ["Vetting"]


class Vetting:
    """Check that authorizes a reader again before it reads an execution with another owner or epoch.

    Args:
        execution_id: The execution.
        state: The state of the execution when the reader was authorized; None if the execution did not exist.
        ask: ``ask(execution_id, previous_owner, state)``; returns whether the reader may continue.
    """

    __slots__ = ("_ask", "_execution_id", "epoch", "owner")

    def __init__(
        self, execution_id: str, state: LogState | None, ask: Callable[[str, str | None, LogState], Awaitable[bool]]
    ) -> None:
        self._execution_id = execution_id
        self._ask = ask
        self.epoch: str | None = state.epoch if state is not None else None
        """The epoch that the reader is authorized for."""
        self.owner: str | None = state.owner if state is not None else None
        """The owner that the reader is authorized for."""

    async def check(self, state: LogState) -> None:
        """Authorize the reader for `state`, unless it is the execution's first epoch with the expected owner.

        Raises:
            ForbiddenError: If the reader may not continue.
        """
        is_first = self.epoch is None and state.owner == self.owner
        if not (is_first or await self._ask(self._execution_id, self.owner, state)):
            raise ForbiddenError(execution_id=self._execution_id)
        self.epoch, self.owner = state.epoch, state.owner
