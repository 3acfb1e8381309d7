"""A real server with a hub behind it, and raw clients that may send anything."""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lg_streaming.codec import Redact
from lg_streaming.gateway import Authenticate, Authorize, Gateway, InitialData, Revoked
from lg_streaming.hub import StreamHub
from lg_streaming.observability.events import Observer
from lg_streaming.settings import StreamingSettings
from tests.support.server import Server, serve

SECRET = "a secret of at least thirty-two bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A gateway on a real uvicorn, in a thread; the hub may be used from any other."""

    hub: StreamHub
    gateway: Gateway
    server: Server

    @property
    def url(self) -> str:
        return self.server.url

    def tokens(self, execution_id: str, count: int, *, start: int = 0) -> None:
        for index in range(start, start + count):
            self.hub.publish(execution_id, "token", {"content": f"t{index} ", "index": index})


def make_app(hub: StreamHub, gateway: Gateway) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await gateway.start()
        try:
            yield
        finally:
            await gateway.shutdown()
            await hub.aclose()

    app = FastAPI(lifespan=lifespan)
    gateway.install(app)
    return app


@contextmanager
def site(
    *,
    authenticate: Authenticate | None = None,
    authorize: Authorize | None = None,
    revoked: Revoked | None = None,
    initial_data: InitialData | None = None,
    observer: Observer | None = None,
    redact: Redact | None = None,
    uvicorn: dict[str, Any] | None = None,
    **settings: Any,
) -> Generator[Site]:
    hub = StreamHub(StreamingSettings(**settings), redact=redact)
    gateway = Gateway(
        hub,
        authenticate=authenticate,
        authorize=authorize,
        revoked=revoked,
        initial_data=initial_data,
        observer=observer,
    )
    # Without its own configuration uvicorn's log reaches pytest's.
    with serve(make_app(hub, gateway), log_config=None, **(uvicorn or {})) as server:
        yield Site(hub=hub, gateway=gateway, server=server)


class RawClient:
    """A WebSocket that sends only the given Socket.IO packets."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, frame: str | bytes) -> None:
        await self.connection.send(frame)

    async def receive(self) -> str:
        message = await asyncio.wait_for(self.connection.recv(), 5)
        assert isinstance(message, str)
        return message

    async def until(self, start: str) -> str:
        """The next message that begins with `start`; others are dropped, pings answered."""
        while not (message := await self.receive()).startswith(start):
            if message == "2":
                await self.send("3")
        return message

    async def event(self, name: str) -> Any:
        return json.loads((await self.until(f'42["{name}"'))[2:])[1]

    async def ask(self, event: str, payload: Any = None, number: int = 7) -> Any:
        await self.send(f"42{number}" + json.dumps([event] if payload is None else [event, payload]))
        return json.loads((await self.until(f"43{number}["))[3:])[0]

    async def closed(self, within: float = 5.0) -> tuple[int, list[str]]:
        """The close code, and what came before."""
        before: list[str] = []
        try:
            async with asyncio.timeout(within):
                while True:
                    message = await self.connection.recv()
                    assert isinstance(message, str)
                    before.append(message)
        except ConnectionClosed as closed:
            return (closed.rcvd.code if closed.rcvd is not None else 1006), before


@asynccontextmanager
async def raw_client(
    site: Site, *, login: bool = True, auth: Any = None, headers: dict[str, str] | None = None, **options: Any
) -> AsyncGenerator[RawClient]:
    prefix = site.gateway.settings.gateway.prefix
    address = f"{site.server.ws_url}{prefix}/socket.io/?EIO=4&transport=websocket"
    async with connect(address, additional_headers=headers, compression=None, max_size=None, **options) as connection:
        client = RawClient(connection)
        assert (await client.receive()).startswith('0{"sid"')
        if login:
            await client.send("40" + ("" if auth is None else json.dumps(auth)))
            assert (await client.receive()).startswith('40{"sid"')
            assert (await client.receive()).startswith('42["connection_status"')
        yield client
