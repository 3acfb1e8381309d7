"""Addresses of the server. A server that other machines reach does not start without authentication."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextvars import ContextVar
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

__all__ = ["EXPOSED", "WATCH_ROUTE", "find_exposed_address", "listening", "refuse_start"]

EXPOSED: Final = (
    "authentication is not set up and the server listens on {address}, where other machines reach it: set "
    "LG_STREAMING_AUTH__SECRET, LG_STREAMING_AUTH__PUBLIC_KEY or LG_STREAMING_AUTH__JWKS_URL, or "
    "LG_STREAMING_AUTH__ENABLED=false to let everybody in, or listen on 127.0.0.1"
)

WATCH_ROUTE: Final = "lg_streaming_watch"
"""Name of the route of the list of runs: a server prints its address."""

listening: Final[ContextVar[tuple[str, ...] | None]] = ContextVar("lg_streaming_listening", default=None)
"""The hosts on which the server listens; None unless a server that supports this library sets it."""


def find_exposed_address() -> str | None:
    """Return an address of the server that other machines may reach, or None if none is found.

    The addresses of `python -m lg_streaming serve` and of uvicorn are found, however these are started.
    """
    hosts = listening.get()
    found = _uvicorn_hosts() if hosts is None else hosts
    return next((host for host in found if not _is_loopback(host)), None)


def refuse_start(app: Starlette, why_refused: Callable[[], str | None]) -> None:
    """Make the lifespan of `app` fail with one line, and without a traceback, if `why_refused` returns a reason."""
    inner = app.router.lifespan

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        if (reason := why_refused()) is None:
            await inner(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.failed", "message": reason})

    app.router.lifespan = lifespan


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _uvicorn_hosts() -> list[str]:
    """Return the hosts of the uvicorn server that serves this event loop, from the coroutine that serves."""
    for task in asyncio.all_tasks():
        server, sockets = _server_in(task.get_coro())
        if server is not None:
            return _hosts_of(server, sockets)
    return []


def _server_in(coroutine: object) -> tuple[Any, Iterable[Any]]:
    server: Any = None
    sockets: Iterable[Any] = ()
    while isinstance(coroutine, CoroutineType):
        frame, coroutine = coroutine.cr_frame, coroutine.cr_await
        names = frame.f_locals if frame is not None else {}
        owner = names.get("self")
        if any(base.__module__ == "uvicorn.server" for base in type(owner).__mro__):
            server = owner
            sockets = names.get("sockets") or sockets
    return server, sockets


def _hosts_of(server: Any, sockets: Iterable[Any]) -> list[str]:
    given = [host for sock in sockets if (host := _host_of(sock)) is not None]
    config = getattr(server, "config", None)
    if given or sockets or getattr(config, "uds", None) is not None:
        return given
    if isinstance(descriptor := getattr(config, "fd", None), int):
        with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as sock:
            host = _host_of(sock)
        return [] if host is None else [host]
    host = getattr(config, "host", None)
    # An empty host, and None, mean every interface.
    return [host or "0.0.0.0"] if host is None or isinstance(host, str) else []  # noqa: S104


def _host_of(sock: Any) -> str | None:
    name: object = sock.getsockname()
    return str(cast("tuple[object, ...]", name)[0]) if isinstance(name, tuple) else None
