"""Import the clients, whose packages are in the extra `client`."""

from __future__ import annotations

import importlib
from typing import Any, Final

from lg_streaming.errors import MissingExtraError

__all__ = ["import_name"]

_PACKAGES: Final = frozenset({"aiohttp", "httpx2"})


def import_name(name: str, module: str) -> Any:
    """Return what ``module`` of `lg_streaming.client` has under ``name``.

    Raises:
        MissingExtraError: If a package of the extra `client` is not installed.
    """
    try:
        found = importlib.import_module(f"lg_streaming.client.{module}")
    except ModuleNotFoundError as missing:
        if missing.name not in _PACKAGES:
            raise
        raise MissingExtraError(f"{name} needs {missing.name}: pip install 'lg-streaming[client]'") from missing
    return getattr(found, name)
