"""Keys that all processes of a fleet share, and that outlive each of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cryptography.fernet import Fernet

if TYPE_CHECKING:
    from lg_streaming.log.fleet import Fleet

__all__ = ["keep_secret", "shared_secret"]

_KIND: Final = "secret"
_YEAR: Final = 366 * 86_400.0
_RETRY: Final = 0.05


async def shared_secret(fleet: Fleet, name: str) -> str:
    """Return the Fernet key of this name, which the first process makes.

    Raises:
        LogUnavailableError: If the log cannot be reached.
    """
    while True:
        key = await fleet.get(_KIND, name)
        if isinstance(key, str):
            return key
        if await fleet.claim(name):
            if await fleet.get(_KIND, name) is None:
                await keep_secret(fleet, name, Fernet.generate_key().decode())
            fleet.release(name)
        else:
            await asyncio.sleep(_RETRY)


async def keep_secret(fleet: Fleet, name: str, key: str) -> None:
    """Store a key for a year from now. Raises like `shared_secret`."""
    await fleet.put(_KIND, name, key, ttl=_YEAR)
