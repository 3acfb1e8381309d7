"""One way to read over every transport, so that the same tests can be run over all of them."""

import asyncio
import json
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.gateway.sse import Event, EventSource

PATIENCE = 20.0
"""Seconds after which what does not come is missing."""

Headers = dict[str, str]
What = Literal["update", "batch", "gap", "error", "end", "closed", "other"]

_UPDATES = frozenset({"token", "progress", "status", "event"})


@dataclass(frozen=True, slots=True)
class Item:
    """One item that a reader received: an update (or a list of them), or another message."""

    what: What
    name: str
    payload: Any = None


class RefusedError(Exception):
    """Refusal of a request; `error` is the error object, `status` the HTTP status if there is one."""

    def __init__(self, error: dict[str, Any], status: int | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.status = status

    @property
    def code(self) -> int:
        return self.error["code"]


class Address(Protocol):
    """Address of a server, or of a proxy before it."""

    host: str
    port: int


class Reader(ABC):
    """One client. It connects when it first asks for something."""

    transport: str
    duplex: bool
    """True if the client can send other messages than a subscribe."""
    lasting: bool = True
    """True if it keeps a connection while it reads, which counts against the limits of connections and readers.
    The server can send messages on it, such as a restart. Other clients poll."""
    always_batches: bool = False
    """True if updates always come as lists."""
    gap_code: int | None = 4091
    """The code of the error that ends a reader with `on_gap=fail`; None: it only gets the gap."""

    def __init__(self, address: Address, *, token: str | None = None, headers: Headers | None = None) -> None:
        self.address = address
        self.token = token
        self.headers = headers or {}
        self.stack = AsyncExitStack()
        self.close_code: int | None = None

    @abstractmethod
    async def subscribe(self, execution_id: str, **options: Any) -> dict[str, Any]:
        """The answer; raises RefusedError."""

    @abstractmethod
    async def next(self) -> Item:
        """Return the next item; after the end always `closed`."""

    async def aclose(self) -> None:
        """Leaves. Harmless when repeated."""
        await self.stack.aclose()

    @abstractmethod
    def cut(self) -> None:
        """Breaks the connection without a word."""


async def until_over(reader: Reader) -> list[Item]:
    """Everything up to the end of the subscription or of the connection, that last item too."""
    found: list[Item] = []
    async with asyncio.timeout(PATIENCE):
        while not found or found[-1].what not in {"end", "closed"}:
            found.append(await reader.next())
    return found


async def first(reader: Reader, what: What, name: str | None = None) -> Item:
    """The next item of that sort; others are dropped."""
    async with asyncio.timeout(PATIENCE):
        while True:
            item = await reader.next()
            if item.what == what and name in {None, item.name}:
                return item
            if item.what == "closed":
                raise ConnectionError(f"closed ({reader.close_code}) before {what} {name}")


async def take(reader: Reader, count: int) -> list[Any]:
    """So many updates, or one more batch than is needed for them."""
    found: list[Any] = []
    while len(found) < count:
        found += updates_in([await _any_update(reader)])
    return found


async def _any_update(reader: Reader) -> Item:
    async with asyncio.timeout(PATIENCE):
        while (item := await reader.next()).what not in {"update", "batch"}:
            if item.what == "closed":
                raise ConnectionError(f"closed ({reader.close_code})")
    return item


def updates_in(items: list[Item]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if item.what == "batch":
            found += item.payload
        elif item.what == "update":
            found.append(item.payload)
    return found


def numbers(updates: list[Any]) -> list[int]:
    return [update["metadata"]["sequence_number"] for update in updates]


def position(update: Any) -> str:
    return f"{update['metadata']['epoch']}:{update['metadata']['sequence_number']}"


# ---------------------------------------------------------------- sockets
class SocketReader(Reader):
    """Base of the adapters of Socket.IO and the plain WebSocket."""

    duplex = True
    path: str

    def __init__(self, address: Address, *, token: str | None = None, headers: Headers | None = None) -> None:
        super().__init__(address, token=token, headers=headers)
        self.line: ClientConnection | None = None
        self.greeting: dict[str, Any] = {}
        self.kept: deque[Item] = deque()
        self._number = 0
        self._over: Item | None = None

    @abstractmethod
    async def _hello(self) -> None:
        """Gets from an open socket to `connection_status`; raises RefusedError."""

    @abstractmethod
    def encode(self, name: str, payload: object, number: int) -> str:
        """One message."""

    @abstractmethod
    def decode(self, text: str) -> tuple[str, Any]:
        """Name and payload; an answer's name is `reply <number>`."""

    async def open(self) -> ClientConnection:
        if self.line is None:
            url = f"ws://{self.address.host}:{self.address.port}{self.path}"
            self.line = await self.stack.enter_async_context(
                connect(url, additional_headers=self.headers, compression=None, max_size=None, close_timeout=1)
            )
            await self._hello()
        return self.line

    async def subscribe(self, execution_id: str, **options: Any) -> dict[str, Any]:
        return await self.ask("subscribe_execution", {"execution_id": execution_id, **options})

    async def ask(self, name: str, payload: object = None) -> dict[str, Any]:
        """The answer to a message; raises RefusedError."""
        await self.open()
        self._number += 1
        number = self._number
        await self.send(self.encode(name, {} if payload is None else payload, number))
        async with asyncio.timeout(PATIENCE):
            while True:
                item = await self._receive()
                if item.name == f"reply {number}":
                    break
                self.kept.append(item)
                if item.what == "closed":
                    raise RefusedError({"code": self.close_code, "name": "closed"})
        if not item.payload["ok"]:
            raise RefusedError(item.payload["error"])
        return item.payload

    async def send(self, text: str | bytes) -> None:
        """Any payload."""
        socket = await self.open()
        with suppress(ConnectionClosed):  # the next item that is read reports it
            await socket.send(text)

    async def next(self) -> Item:
        return self.kept.popleft() if self.kept else await self._receive()

    async def _receive(self) -> Item:
        if self._over is not None:
            return self._over
        assert self.line is not None
        try:
            async with asyncio.timeout(PATIENCE):
                text = await self.line.recv()
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd is not None else 1006
            self._over = Item("closed", str(self.close_code))
            return self._over
        assert isinstance(text, str)
        return self._item(*self.decode(text))

    def _item(self, name: str, payload: Any) -> Item:
        if name in _UPDATES:
            return Item("update", name, payload)
        match name:
            case "updates":
                return Item("batch", name, payload["updates"])
            case "gap" | "error":
                return Item(name, name, payload)
            case "subscription_closed":
                return Item("end", payload["reason"], payload)
            case _:
                return Item("other", name, payload)

    def cut(self) -> None:
        if self.line is not None:
            self.line.transport.abort()


class SocketIOReader(SocketReader):
    transport = "socketio"
    path = "/socket.io/?EIO=4&transport=websocket"

    async def _hello(self) -> None:
        assert self.line is not None
        assert str(await asyncio.wait_for(self.line.recv(), PATIENCE)).startswith("0")
        await self.line.send("40" + ("" if self.token is None else json.dumps({"token": self.token})))
        answer = str(await asyncio.wait_for(self.line.recv(), PATIENCE))
        if answer.startswith("44"):
            raise RefusedError(json.loads(answer[2:])["data"])
        self.greeting = (await first(self, "other", "connection_status")).payload

    def encode(self, name: str, payload: object, number: int) -> str:
        return f"42{number}" + json.dumps([name, payload])

    def decode(self, text: str) -> tuple[str, Any]:
        if text.startswith("42"):
            name, payload = json.loads(text[2:])
            return name, payload
        if text.startswith("43"):
            number, _, rest = text[2:].partition("[")
            return f"reply {number}", json.loads("[" + rest)[0]
        return f"packet {text[:2]}", text


class WebSocketReader(SocketReader):
    """The token travels in the header, as it does for every client that is no browser."""

    transport = "websocket"
    path = "/ws"

    def __init__(self, address: Address, *, token: str | None = None, headers: Headers | None = None) -> None:
        super().__init__(address, token=token, headers=_with_bearer(token, headers))

    async def _hello(self) -> None:
        item = await self._receive()
        if item.what == "error":
            await first_close(self)
            raise RefusedError(item.payload)
        if item.name != "connection_status":
            raise ConnectionError(f"{item.name} in place of connection_status")
        self.greeting = item.payload

    def encode(self, name: str, payload: object, number: int) -> str:
        return json.dumps({"type": name, "payload": payload, "id": number})

    def decode(self, text: str) -> tuple[str, Any]:
        message = json.loads(text)
        name, payload = message["type"], message["payload"]
        if name == "reply":
            return f"reply {message.get('id')}", payload
        if name in _UPDATES:
            metadata = payload.pop("metadata")
            return name, {"type": metadata.pop("type"), "data": payload, "metadata": metadata}
        return name, payload


async def first_close(reader: SocketReader) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await reader.next()).what != "closed":
            pass


# ---------------------------------------------------------------- Server-Sent Events
class SSEReader(Reader):
    transport = "sse"
    duplex = False

    def __init__(self, address: Address, *, token: str | None = None, headers: Headers | None = None) -> None:
        super().__init__(address, token=token, headers=_with_bearer(token, headers))
        self._events: AsyncIterator[Event] | None = None
        self._response: httpx2.Response | None = None

    async def subscribe(self, execution_id: str, **options: Any) -> dict[str, Any]:
        await self.aclose()
        self.stack = AsyncExitStack()
        client = await self.stack.enter_async_context(httpx2.AsyncClient(timeout=PATIENCE))
        url = f"http://{self.address.host}:{self.address.port}/executions/{execution_id}/stream"
        query = {name: _in_query(value) for name, value in options.items()}
        response = await self.stack.enter_async_context(client.stream("GET", url, params=query, headers=self.headers))
        self._response = response
        if response.status_code == 204:
            return {"ok": True, "past_end": True}
        if response.status_code != 200:
            error = json.loads(await response.aread())["error"]
            raise RefusedError(error, response.status_code)
        self._events = EventSource(client, url, greeted=False).events_of(response)
        return {"ok": True, **json.loads((await anext(self._events)).data)}

    async def next(self) -> Item:
        assert self._events is not None
        try:
            async with asyncio.timeout(PATIENCE):
                event = await anext(self._events)
        except (StopAsyncIteration, httpx2.HTTPError):
            return Item("closed", "")
        payload = event.json
        if isinstance(payload, list):
            return Item("batch", event.type, payload)
        if event.type in {"gap", "error"} and "metadata" not in payload:
            return Item("gap" if event.type == "gap" else "error", event.type, payload)
        if event.type == "end":
            return Item("end", "ended", payload)
        return Item("update" if "metadata" in payload else "other", event.type, payload)

    def cut(self) -> None:
        if self._response is not None:
            self._response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _in_query(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(str(each) for each in value) if isinstance(value, (list, tuple)) else str(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _with_bearer(token: str | None, headers: Headers | None) -> Headers:
    return {**({} if token is None else {"Authorization": f"Bearer {token}"}), **(headers or {})}


# ---------------------------------------------------------------- pages
class PollingReader(Reader):
    """Asks for the next page when the one before is used up, and lets the server wait for it."""

    transport = "polling"
    duplex = False
    lasting = False
    always_batches = True
    gap_code = None
    wait = 10.0

    def __init__(self, address: Address, *, token: str | None = None, headers: Headers | None = None) -> None:
        super().__init__(address, token=token, headers=_with_bearer(token, headers))
        self._client: httpx2.AsyncClient | None = None
        self._response: httpx2.Response | None = None
        self._url = ""
        self._query: dict[str, str] = {}
        self._kept: deque[Item] = deque()

    async def subscribe(self, execution_id: str, *, batch: bool = False, **options: Any) -> dict[str, Any]:
        """Return the first page; `batch` has no effect, as every page is a list."""
        await self.aclose()
        self.stack = AsyncExitStack()
        self._client = await self.stack.enter_async_context(httpx2.AsyncClient(timeout=PATIENCE, headers=self.headers))
        self._url = f"http://{self.address.host}:{self.address.port}/executions/{execution_id}"
        self._query = {"limit": "500", **{name: _in_query(value) for name, value in options.items()}}
        self._kept.clear()
        page = await self._get("/updates", self._query)
        known = page["state"] != "unknown"
        about = await self._get("") if known else {"position": None, "oldest": None}
        self._keep(page)
        return {
            "ok": True,
            "state": page["state"],
            "position": about["position"],
            "oldest": about["oldest"],
            "recovered": page["recovered"],
            "reason": page.get("gap", {}).get("reason"),
        }

    async def next(self) -> Item:
        while not self._kept:
            try:
                self._keep(await self._get("/updates", {**self._query, "wait": str(self.wait)}))
            except RefusedError as refused:
                self._kept += [Item("error", "error", refused.error), Item("closed", "")]
            except httpx2.HTTPError:
                self._kept.append(Item("closed", ""))
        return self._kept[0] if self._kept[0].what == "closed" else self._kept.popleft()

    async def _get(self, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
        assert self._client is not None
        self._response = await self._client.get(self._url + path, params=query)
        answer = self._response.json()
        if self._response.status_code != 200:
            raise RefusedError(answer["error"], self._response.status_code)
        return answer

    def _keep(self, page: dict[str, Any]) -> None:
        """Yield the items of a page, in order."""
        if "gap" in page:
            self._kept.append(Item("gap", "gap", {"execution_id": page["execution_id"], **page["gap"]}))
        if page["updates"]:
            self._kept.append(Item("batch", "updates", page["updates"]))
        follow = self._query.get("follow") == "true"
        if "gap" in page and self._query.get("on_gap") == "fail":
            self._kept.append(Item("closed", ""))
        elif page["ended"] and not follow:
            self._kept += [Item("end", "ended", page), Item("closed", "")]
        self._query.pop("after", None)
        if page["position"] is not None:
            self._query["after"] = page["position"]

    def cut(self) -> None:
        if self._response is not None:
            with suppress(OSError):  # the server may have been quicker
                self._response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)


_ALL: tuple[type[Reader], ...] = (SocketIOReader, WebSocketReader, SSEReader, PollingReader)
READERS: dict[str, type[Reader]] = {each.transport: each for each in _ALL}
LASTING: dict[str, type[Reader]] = {each.transport: each for each in _ALL if each.lasting}
SOCKETS: dict[str, type[SocketReader]] = {each.transport: each for each in (SocketIOReader, WebSocketReader)}

Make = Callable[..., Reader]


@dataclass(slots=True)
class Readers:
    """Makes readers of one transport, and closes them."""

    kind: type[Reader]
    made: list[Reader] = field(default_factory=list[Reader])

    @property
    def transport(self) -> str:
        return self.kind.transport

    def __call__(self, address: Address, *, token: str | None = None, headers: Headers | None = None) -> Reader:
        self.made.append(self.kind(address, token=token, headers=headers))
        return self.made[-1]


@asynccontextmanager
async def readers_of(kind: type[Reader]) -> AsyncGenerator[Readers]:
    readers = Readers(kind)
    try:
        yield readers
    finally:
        for reader in readers.made:
            await reader.aclose()
