"""Both clients, and servers for them that may go away and come back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

import pytest
from fastapi import FastAPI

from lg_streaming.client import ClientEvent, SocketIOClient, SSEClient, StreamClient
from lg_streaming.events import StreamUpdate
from lg_streaming.gateway import Gateway
from lg_streaming.hub import StreamHub
from lg_streaming.settings import StreamingSettings
from tests.support.server import Server, serve

PATIENCE = 20.0
"""Seconds after which what does not come is missing."""

CLIENTS: dict[str, type[StreamClient]] = {"sse": SSEClient, "socketio": SocketIOClient}
OPEN: dict[str, Any] = {
    "auth": {"enabled": False},
    "limits": {"messages_per_second": None, "connects_per_address": None},
}


class Make(Protocol):
    """Makes clients of one kind; they are closed at the end."""

    kind: str

    def __call__(self, url: str, **options: Any) -> StreamClient: ...


class _Maker:
    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.made: list[StreamClient] = []

    def __call__(self, url: str, **options: Any) -> StreamClient:
        defaults: dict[str, Any] = {"reconnect_delay": 0.01, "max_reconnect_delay": 0.1, "connect_timeout": 5.0}
        self.made.append(CLIENTS[self.kind](url, **{**defaults, **options}))
        return self.made[-1]


@pytest.fixture(params=CLIENTS)
async def make(request: pytest.FixtureRequest) -> AsyncGenerator[Make]:
    maker = _Maker(request.param)
    yield maker
    async with asyncio.timeout(PATIENCE):
        for client in maker.made:
            await client.aclose()


class Soon(random.Random):
    """A source of the pauses a server asks for, which are short: a client keeps to them."""

    def randint(self, a: int, b: int) -> int:
        return 20


class Place:
    """A hub that outlives its servers, which come back at the same address."""

    def __init__(self, *, patient: bool = False, **settings: Any) -> None:
        self._patient = patient
        self.hub = StreamHub(StreamingSettings(**{**OPEN, **settings}))
        self.port = 0
        self.server: Server | None = None
        self.requests: list[dict[str, str]] = []
        """The headers of each request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Generator[None]:
        with serve(self._app(), port=self.port, log_config=None) as self.server:
            self.port = self.server.port
            yield

    def _app(self) -> Callable[..., Any]:
        gateway = Gateway(self.hub)

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
            await gateway.start()
            yield
            await gateway.shutdown()

        if not self._patient:
            gateway._lifecycle.jitter = Soon()  # pyright: ignore[reportPrivateUsage]
        app = FastAPI(lifespan=lifespan)
        gateway.install(app)

        async def seen(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "lifespan":
                self.requests.append({name.decode(): value.decode() for name, value in scope["headers"]})
            await app(scope, receive, send)

        return seen

    def tokens(self, execution_id: str, count: int, *, start: int = 0) -> None:
        for index in range(start, start + count):
            self.hub.publish(execution_id, "token", {"content": f"t{index} ", "index": index})


@pytest.fixture
async def place() -> AsyncGenerator[Place]:
    """A place whose server runs; it lets everybody in."""
    made = Place()
    with made.serving():
        yield made
    await made.hub.aclose()


@asynccontextmanager
async def place_with(**settings: Any) -> AsyncGenerator[Place]:
    """Return one with separate settings, not serving yet."""
    made = Place(**settings)
    try:
        yield made
    finally:
        await made.hub.aclose()


class Heard:
    """Events of a client."""

    def __init__(self, client: StreamClient) -> None:
        self.events: list[ClientEvent] = []
        self._news = asyncio.Event()
        client.on("*", self._hear)

    def _hear(self, event: ClientEvent) -> None:
        self.events.append(event)
        self._news.set()

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def of(self, name: str) -> list[Any]:
        return [event for event in self.events if event.name == name]

    async def until(self, name: str, count: int = 1) -> Any:
        """The event of that name, once there are so many."""
        async with asyncio.timeout(PATIENCE):
            while len(self.of(name)) < count:
                self._news.clear()
                await self._news.wait()
        return self.of(name)[count - 1]


def seqs(updates: list[StreamUpdate]) -> list[int]:
    return [each.metadata.sequence_number for each in updates]


async def read_all(client: StreamClient, execution_id: str = "e", **wanted: Any) -> list[StreamUpdate]:
    async with asyncio.timeout(PATIENCE):
        return [update async for update in client.subscribe(execution_id, **wanted)]
