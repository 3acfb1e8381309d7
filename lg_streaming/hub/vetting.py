"""Whether a reader may go on when the execution it reads is not the one it was let in to any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from lg_streaming.errors import ForbiddenError

if TYPE_CHECKING:
    from lg_streaming.log.base import LogState

__all__ = ["Vetting"]


class Vetting:
    """Asks again when an execution gets another owner, or begins anew, before anything of it is read.

    Args:
        execution_id: The execution.
        state: What was known of it when the reader was let in; None: nothing.
        ask: Called with the execution, its owner until now, and the new state: whether the reader may go on.
    """

    __slots__ = ("_ask", "_epoch", "_execution_id", "_owner")

    def __init__(
        self, execution_id: str, state: LogState | None, ask: Callable[[str, str | None, LogState], Awaitable[bool]]
    ) -> None:
        self._execution_id = execution_id
        self._ask = ask
        self._epoch = state.epoch if state is not None else None
        self._owner = state.owner if state is not None else None

    def covers(self, state: LogState) -> bool:
        """Whether the reader was let in to what `state` describes."""
        return state.owner == self._owner and state.epoch == self._epoch

    async def check(self, state: LogState) -> None:
        """Ask about `state`, unless it is the first life of the execution and has the owner that was known.

        Raises:
            ForbiddenError: The reader may not go on.
        """
        is_first = self._epoch is None and state.owner == self._owner
        if not (is_first or await self._ask(self._execution_id, self._owner, state)):
            raise ForbiddenError(execution_id=self._execution_id)
        self._epoch, self._owner = state.epoch, state.owner
