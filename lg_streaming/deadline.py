"""How long reading may take in all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from lg_streaming.checks import seconds
from lg_streaming.errors import BadRequestError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Deadline", "check_timeout"]


def check_timeout(timeout: object) -> None:
    """Sees that ``timeout`` is a number of seconds, or None for no limit.

    Raises:
        BadRequestError: It is not.
    """
    seconds(none="for no limit").check("timeout", timeout, BadRequestError)


class Deadline:
    """A moment after which waiting is over, as `anyio.fail_after` has it: the seconds count from its first wait on.

    Each wait stands in ``async with deadline:``, one after another.

    Args:
        timeout: Seconds; None for no limit.
        what: What is read, for the message.

    Raises:
        TimeoutError: At a wait that lasts beyond the moment, or begins after it.
    """

    def __init__(self, timeout: float | None, what: str) -> None:
        self._timeout = timeout
        self._what = what
        self._moment: float | None = None
        self._scope: asyncio.Timeout | None = None

    async def __aenter__(self) -> Self:
        if self._timeout is not None:
            now = asyncio.get_running_loop().time()
            self._moment = now + self._timeout if self._moment is None else self._moment
            if now >= self._moment:
                raise self._error()
            self._scope = asyncio.timeout_at(self._moment)
            await self._scope.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        scope, self._scope = self._scope, None
        if scope is None:
            return
        try:
            await scope.__aexit__(exc_type, exc, traceback)
        except TimeoutError:  # made of the cancellation; one that came from inside is not raised here
            raise self._error() from None

    def _error(self) -> TimeoutError:
        return TimeoutError(f"reading {self._what} has not ended after {self._timeout:g} s")
