"""A server whose hub outlives it, and pages of it that watch executions with the module."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse
from playwright.async_api import Page

from lg_streaming.gateway import Gateway, InitialData
from lg_streaming.hub import StreamHub
from lg_streaming.settings import StreamingSettings
from tests.gateway.tokens import peer, token
from tests.support.browser import chromium_page
from tests.support.node import JS
from tests.support.server import Server, serve

PATIENCE = 20.0
PATIENCE_MS = PATIENCE * 1000
EXECUTION = "acme/run-1"
SOCKETIO = "socketio"
TRANSPORTS = ["sse", "websocket", "polling", SOCKETIO]
QUICK = {"backoff": {"initial": 50, "max": 200}, "pollInterval": 10}
"""Options of a client that comes back soon."""

# What a page notes of an execution, as `window.<name>`; the functions a test may ask for are made here.
WATCH = """async ([id, options, name]) => {
    const { subscribe } = await import(options.module ?? "/lg-streaming.js");
    const { module, socketio, tokenFrom, ticketFrom, ...plain } = options;
    const lists = ["updates", "types", "states", "transports", "gaps", "errors", "texts", "initial"];
    const noted = window[name] = Object.fromEntries(lists.map((list) => [list, []]));
    if (tokenFrom) plain.token = async () => (await fetch(tokenFrom)).text();
    if (ticketFrom) plain.ticket = async (id) => (await fetch(`${ticketFrom}?id=${encodeURIComponent(id)}`)).text();
    if (socketio) {
        const { io } = await import("/socket.io.esm.min.js");
        const token = async () => (typeof plain.token === "function" ? plain.token() : plain.token);
        const auth = async (answer) => answer({ token: await token() });
        const wait = { reconnectionDelay: 50, reconnectionDelayMax: 200 };
        plain.socket = window.socket ??= io(plain.url, { transports: ["websocket"], auth, forceNew: true, ...wait });
    }
    noted.subscription = subscribe(id, {
        ...plain,
        onUpdate: ({ type, metadata }) => { noted.updates.push(metadata.sequence_number); noted.types.push(type); },
        onText: ({ id, text }) => noted.texts.push([id, text]),
        onGap: (gap) => noted.gaps.push(gap),
        onInitial: (data) => noted.initial.push(data),
        onState: (state, { transport, error }) => {
            noted.states.push(state);
            if (transport) noted.transports.push(transport);
            if (error) noted.errors.push([error.code, error.codeName, error.message]);
        },
    });
}"""


class Watcher:
    """A page's subscription."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self._name = name

    async def get(self, what: str) -> Any:
        return await self.page.evaluate(f"{self._name}.{what}")

    async def until(self, what: str) -> None:
        """Waits until this expression holds; `it` is what the page has noted."""
        try:
            await self.page.wait_for_function(
                f"(() => {{ const it = {self._name}; return {what}; }})()", timeout=PATIENCE_MS
            )
        except Exception as error:
            raise AssertionError(f"not {what}: {await self.page.evaluate(f'JSON.stringify({self._name})')}") from error

    async def ended(self) -> None:
        await self.until("it.subscription.state === 'ended'")

    async def texts(self) -> list[str]:
        return await self.get("subscription.messages.map(({ text }) => text)")


class Place:
    """The hub, and its server, which may come back at the same address."""

    def __init__(
        self,
        *,
        wrap: Callable[[Any], Any] = lambda app: app,
        lifetime: float = 600.0,
        initial_data: InitialData | None = None,
        **settings: object,
    ) -> None:
        self.hub = StreamHub(StreamingSettings.model_validate(settings))
        self.gateway = Gateway(self.hub)
        self.lifetime = lifetime
        self.tokens_made = 0
        self._initial_data = initial_data
        self._wrap = wrap
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def come_back_as(self, other: Place) -> None:
        """Serves where `other` did."""
        self._port = other._port

    @contextmanager
    def serving(self) -> Generator[Server]:
        with serve(self._wrap(self._app()), port=self._port, log_config=None) as server:
            self._port = server.port
            yield server

    def _app(self) -> FastAPI:
        self.gateway = gateway = Gateway(self.hub, initial_data=self._initial_data)

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
            await gateway.start()
            yield
            await gateway.shutdown()

        app = FastAPI(lifespan=lifespan)
        gateway.install(app)

        @app.get("/")
        async def page() -> Response:
            return HTMLResponse('<!doctype html><link rel="icon" href="data:,"><p>A page</p>')

        @app.get("/my-token")
        async def my_token() -> Response:
            self.tokens_made += 1
            return PlainTextResponse(token(exp=time.time() + self.lifetime))

        @app.get("/my-ticket")
        async def my_ticket(id: str) -> Response:
            principal = await gateway.policy.authenticate(peer(), token())
            return PlainTextResponse(gateway.policy.tickets.issue(principal, execution_id=id)[0])

        @app.get("/socket.io.esm.min.js")
        async def socketio() -> Response:
            return FileResponse(JS / "node_modules/socket.io-client/dist/socket.io.esm.min.js")

        return app

    def write(self, text: str, *, attempt: int = 1, message_id: str = "m1", execution_id: str = EXECUTION) -> None:
        emitter = self.hub.emitter(execution_id, node_id="write", attempt=attempt, message_id=message_id)
        emitter.event("token", {"content": text})

    async def nobody_is_left(self) -> None:
        """Waits until the server has forgotten all its clients."""
        async with asyncio.timeout(PATIENCE):
            while self.gateway.clients or self.gateway.connections or self.hub.statistics().subscriptions:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def place(**options: Any) -> AsyncGenerator[Place]:
    """A place; its hub is closed at the end."""
    made = Place(**options)
    try:
        yield made
    finally:
        await made.hub.aclose()


@asynccontextmanager
async def page_at(url: str) -> AsyncGenerator[Page]:
    """A page in which no script fails."""
    errors: list[str] = []
    async with chromium_page() as page:
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(url)
        yield page
    assert errors == []


async def watch(
    page: Page, transport: str = "auto", *, execution_id: str = EXECUTION, name: str = "noted", **options: Any
) -> Watcher:
    """Watches an execution on a page."""
    chosen = {SOCKETIO: True} if transport == SOCKETIO else {"transport": transport}
    await page.evaluate(WATCH, [execution_id, {**QUICK, **chosen, **options}, name])
    return Watcher(page, name)
