"""Address of a server, of its pages and executions, and the token and TLS certificates for it."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from lg_streaming.cli.outcome import UsageError
from lg_streaming.errors import BadRequestError
from lg_streaming.events import check_execution_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from lg_streaming.client import ClientOptions, SSEClient, Token
    from lg_streaming.client.rest import RestClient

__all__ = ["Access", "announce_outages", "open_client", "open_rest", "require_client"]

_PLACE: Final = re.compile(r"/(watch|executions)(?:/|$)")
_RESOURCE: Final = re.compile(r"/(?:stream|updates|responses|pause|resume|inputs|graph|states|forks|links)$")

_RECONNECT_DELAY: Final = 0.25
"""Seconds; a person waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A server as a command names it. Build it with `of`."""

    url: str
    """Address of the gateway, with its prefix."""
    execution_id: str | None
    token: Token | None
    ssl_context: ssl.SSLContext | None

    @classmethod
    def of(
        cls,
        address: str,
        execution_id: str | None = None,
        *,
        token: str | None = None,
        token_file: str | None = None,
        ca: Path | None = None,
    ) -> Access:
        """Return the access that the arguments of a command describe.

        Args:
            address: Address of a gateway, of its page for executions or one execution, or of an execution's route.
            execution_id: The execution, unless the address has it.
            token: A token. A link in the address replaces it.
            token_file: File with a token, which is read for each connection; ``-`` reads the standard input once.
            ca: File with certificates of authorities, in PEM format, in place of those of the system.

        Raises:
            UsageError: If an argument cannot be used.
        """
        url, found, link = _split(address)
        if execution_id is not None and found not in {None, execution_id}:
            raise UsageError(f"the address is of {found!r}, and the execution is {execution_id!r}: give one of them")
        execution_id = execution_id if execution_id is not None else found
        try:
            if execution_id is not None:
                check_execution_id(execution_id)
        except BadRequestError as error:
            raise UsageError(error.message) from error
        return cls(
            url=url,
            execution_id=execution_id,
            token=link or (_read_token(token_file) if token_file is not None else token),
            ssl_context=None if ca is None else _load_authorities(ca),
        )

    def require_execution(self) -> str:
        """Return the execution.

        Raises:
            UsageError: If the arguments name none.
        """
        if self.execution_id is None:
            raise UsageError("no execution is given: pass its ID, or the address of its page")
        return self.execution_id

    @property
    def options(self) -> ClientOptions:
        """Options of a client that does not reconnect yet."""
        return {
            "token": self.token,
            "ssl_context": self.ssl_context,
            "auto_reconnect": False,
            "reconnect_delay": _RECONNECT_DELAY,
        }


@asynccontextmanager
async def open_client(access: Access) -> AsyncGenerator[SSEClient]:
    """Return a client that does not reconnect yet: a server that cannot be reached at first is an error.

    Raises:
        MissingExtraError: If the extra `client` is not installed.
        UsageError: If the address cannot be used.
    """
    from lg_streaming.client import SSEClient

    try:
        client = SSEClient(access.url, **access.options)
    except ValueError as error:
        raise UsageError(str(error)) from error
    async with client:
        yield client


def require_client() -> None:
    """Check that the extra `client` is installed.

    Raises:
        MissingExtraError: If it is not.
    """
    from lg_streaming.client.extra import import_name

    import_name("RestClient", "rest")


@asynccontextmanager
async def open_rest(access: Access) -> AsyncGenerator[RestClient]:
    """Return a client for single requests. Raises like `open_client`."""
    from lg_streaming.client.config import ClientConfig, TokenSource
    from lg_streaming.client.extra import import_name

    try:
        config = ClientConfig(url=access.url, **access.options)
    except ValueError as error:
        raise UsageError(str(error)) from error
    rest: RestClient = import_name("RestClient", "rest")(lambda: config, TokenSource(access.token))
    try:
        yield rest
    finally:
        await rest.aclose()


def announce_outages(client: SSEClient, print_line: Callable[[str], None]) -> None:
    """Make a client replace lost connections from now on, and announce an outage and its end."""
    from lg_streaming.client import Connected, Disconnected

    logging.getLogger("lg_streaming.client").addHandler(logging.NullHandler())  # it would announce them too
    client.configure(auto_reconnect=True)
    lost = False

    def on_disconnected(event: Disconnected) -> None:
        nonlocal lost
        if event.will_reconnect and event.error is not None and not lost:
            lost = True
            print_line(f"Not connected: {event.error.message}. Trying again.")

    def on_connected(_: Connected) -> None:
        nonlocal lost
        if lost:
            lost = False
            print_line("Connected again.")

    client.on("disconnected", on_disconnected)
    client.on("connected", on_connected)


def _split(address: str) -> tuple[str, str | None, str | None]:
    """Return the gateway, the execution and the link in an address."""
    try:
        parts = urlsplit(address)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        raise UsageError(f"the address cannot be used: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_valid:
        raise UsageError(f"URL is where the server is, such as http://127.0.0.1:8000, not {address!r:.200}")
    links = parse_qs(parts.fragment).get("link")
    place = _PLACE.search(parts.path)
    if place is None:
        return urlunsplit(parts._replace(fragment="")), None, links[0] if links else None
    rest = parts.path[place.end() :]
    if place[1] == "executions":
        rest = _RESOURCE.sub("", rest)
    base = parts._replace(path=parts.path[: place.start()], query="", fragment="")
    return urlunsplit(base), unquote(rest) or None, links[0] if links else None


def _read_token(name: str) -> Token:
    if name == "-":
        return _given(sys.stdin.readline().strip(), "the standard input")
    path = Path(name)

    def read() -> str:
        return path.read_text(encoding="utf-8").strip()

    async def read_in_thread() -> str:
        return await asyncio.to_thread(read)

    try:
        _given(read(), name)
    except (OSError, ValueError) as error:
        raise UsageError(f"--token-file cannot be read: {error}") from error
    return read_in_thread


def _given(token: str, name: str) -> str:
    if token == "":
        raise UsageError(f"--token-file has no token: {name} is empty")
    return token


def _load_authorities(path: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise UsageError(f"--ca {path} cannot be used: {error}") from error
