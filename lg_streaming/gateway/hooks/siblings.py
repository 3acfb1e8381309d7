"""Signs of a server that runs the application in several processes.

Each server is recognised by the object that serves, or by its process. Without a known server the environment variable
``WEB_CONCURRENCY`` decides. A reloader and a program that forks for other purposes have no such sign.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.gateway.hooks.server import task_owners, uvicorn_server

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["find_siblings", "served_by"]

served_by: Final[ContextVar[int | None]] = ContextVar("lg_streaming_served_by", default=None)
"""Processes that serve the application together; None unless a server that supports this library sets it."""


def find_siblings() -> str | None:
    """Describe the server that runs this application in several processes; None if no sign is found.

    Call it on the server's event loop.
    """
    for name, workers in (
        ("lg-streaming serve", served_by.get()),
        ("gunicorn", _gunicorn_workers()),
        ("uvicorn", _uvicorn_workers()),
        ("hypercorn", _hypercorn_workers()),
        ("granian", _granian_workers()),
        ("WEB_CONCURRENCY", _to_count(os.environ.get("WEB_CONCURRENCY"))),
    ):
        if workers is not None:
            return f"{name}: {workers} workers" if workers > 1 else None
    return None


def _gunicorn_workers() -> int | None:
    for owner in task_owners():
        if any(base.__module__ == "gunicorn.workers.base" for base in type(owner).__mro__):
            return _to_count(getattr(getattr(owner, "cfg", None), "workers", None)) or 1
    return None


def _uvicorn_workers() -> int | None:
    config = getattr(uvicorn_server(), "config", None)
    if config is None:
        return None
    # A server in the first process is alone, although its configuration may have the number from WEB_CONCURRENCY.
    supervised = _package_of_process() == "uvicorn" and not getattr(config, "reload", False)
    return (_to_count(getattr(config, "workers", None)) or 1) if supervised else 1


def _hypercorn_workers() -> int | None:
    if _package_of_process() != "hypercorn":
        return None
    arguments: Any = getattr(multiprocessing.current_process(), "_kwargs", None) or {}
    return _to_count(getattr(arguments.get("config"), "workers", None)) or 1


def _granian_workers() -> int | None:
    if _package_of_process() != "granian":
        return None
    return _option(_parents_arguments(), "--workers") or _to_count(os.environ.get("GRANIAN_WORKERS")) or 1


def _package_of_process() -> str | None:
    """Return the package of the function that runs this process; None in a process without `multiprocessing`."""
    target: Any = getattr(multiprocessing.current_process(), "_target", None)
    module: object = getattr(target, "__module__", None)
    return module.partition(".")[0] if isinstance(module, str) else None


def _parents_arguments() -> list[str]:
    """Return the command line of the parent process, on Linux."""
    if sys.platform != "linux":
        return []
    try:
        return Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def _option(arguments: Iterable[str], name: str) -> int | None:
    """Return the number of an option on a command line."""
    is_next = False
    for argument in arguments:
        if is_next:
            return _to_count(argument)
        before, equals, value = argument.partition("=")
        if before == name and equals:
            return _to_count(value)
        is_next = argument == name
    return None


def _to_count(value: object) -> int | None:
    try:
        return int(value) if isinstance(value, (int, str)) else None
    except ValueError:
        return None
