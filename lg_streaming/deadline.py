"""Limit the total time of reading."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from lg_streaming.checks import seconds
from lg_streaming.errors import BadRequestError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Deadline", "check_timeout"]


def check_timeout(timeout: object) -> None:
    """Check that ``timeout`` is a number of seconds, or None for no limit.

    Raises:
        BadRequestError: If it is neither.
    """
    seconds(none="for no limit").check("timeout", timeout, BadRequestError)


class Deadline:
    """Deadline for a series of waits, each in ``async with deadline:``. The time counts from the first wait on.

    Args:
        timeout: Seconds; None for no limit.
        what: The thing that is read, for the message.

    Raises:
        TimeoutError: If a wait lasts beyond the deadline, or begins after it.
    """

    def __init__(self, timeout: float | None, what: str) -> None:
        self._timeout = timeout
        self._what = what
        self._expires_at: float | None = None
        self._scope: asyncio.Timeout | None = None

    async def __aenter__(self) -> Self:
        if self._timeout is not None:
            now = asyncio.get_running_loop().time()
            self._expires_at = now + self._timeout if self._expires_at is None else self._expires_at
            if now >= self._expires_at:
                raise self._error()
            self._scope = asyncio.timeout_at(self._expires_at)
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
        except TimeoutError:  # made of the cancellation; an error from inside is not raised here
            raise self._error() from None

    def _error(self) -> TimeoutError:
        return TimeoutError(f"reading {self._what} has not ended after {self._timeout:g} s")
