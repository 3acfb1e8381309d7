"""If a transport does not get through, the browser's module takes the next one, and returns when it can."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.browser.place import EXECUTION, PATIENCE, Watcher, page_at, place, watch
from tests.support.tcp_proxy import tcp_proxy

pytestmark = pytest.mark.browser

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Obstacle:
    """An app before another one, like a proxy that blocks some paths."""

    def __init__(self, *, refuse: tuple[str, ...] = (), swallow: tuple[str, ...] = ()) -> None:
        self.refuse = refuse
        self.swallow = swallow
        self.asked: list[str] = []

    def __call__(self, app: Any) -> Any:
        async def wrapped(scope: Message, receive: Receive, send: Send) -> None:
            path = str(scope.get("path", ""))
            self.asked.append(path)
            if scope["type"] == "websocket" and path.endswith(self.refuse):
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            elif scope["type"] == "http" and path.endswith(self.refuse) and not path.endswith("/ws"):
                await send({"type": "http.response.start", "status": 502, "headers": []})
                await send({"type": "http.response.body", "body": b"bad gateway"})
            elif path.endswith(self.swallow):
                while (await receive())["type"] not in {"http.disconnect", "websocket.disconnect"}:
                    pass
            else:
                await app(scope, receive, send)

        return wrapped


# Written like this, as `endswith(())` is False.
NOTHING: tuple[str, ...] = ()


async def ends_well(watcher: Watcher, made: Any) -> None:
    made.write("two ")
    await made.hub.close(EXECUTION)
    await watcher.ended()
    assert await watcher.get("updates") == [1, 2, 3, 4]
    assert await watcher.texts() == ["one two "]


@pytest.mark.row("PYEV-17")
@pytest.mark.parametrize(
    ("transports", "used"),
    [
        (["socketio", "sse", "websocket", "rest"], "sse"),
        (["socketio", "websocket", "rest"], "websocket"),
        (["socketio", "rest"], "polling"),
    ],
)
async def test_what_the_server_does_not_have_is_not_tried_twice(transports: list[str], used: str) -> None:
    obstacle = Obstacle()
    async with place(wrap=obstacle, gateway={"transports": transports}) as made:
        with made.serving():
            async with page_at(made.url) as page:
                made.write("one ")
                watcher = await watch(page, backoff={"initial": 10_000})  # so a wait would be noticed
                await watcher.until("it.updates.length >= 2")
                assert (await watcher.get("transports"))[-1] == used
                assert await watcher.get("subscription.state") == ("polling" if used == "polling" else "connected")
                assert sum(path.endswith("/stream") for path in obstacle.asked) <= 2  # the second asks why
                await ends_well(watcher, made)


async def test_a_server_that_has_nothing_for_a_page_is_given_up() -> None:
    async with place(gateway={"transports": ["socketio"]}) as made:
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page)
                await watcher.until("it.subscription.state === 'failed'")


@pytest.mark.row("PYEV-21")
@pytest.mark.parametrize("how", ["refuse", "swallow"])
async def test_a_proxy_that_lets_only_requests_through_is_got_along_with(how: str) -> None:
    obstacle = Obstacle(**{how: ("/stream", "/ws")})
    async with place(wrap=obstacle) as made:
        with made.serving():
            async with page_at(made.url) as page:
                made.write("one ")
                watcher = await watch(page, openTimeout=400)
                await watcher.until("it.subscription.state === 'polling' && it.updates.length >= 2")
                assert list(dict.fromkeys(await watcher.get("transports")))[-2:] == ["websocket", "polling"]
                assert any(path.endswith("/stream") for path in obstacle.asked)
                await ends_well(watcher, made)


async def test_a_page_that_polls_comes_back_to_something_better_and_loses_nothing() -> None:
    obstacle = Obstacle(refuse=("/stream", "/ws"))
    async with place(wrap=obstacle) as made:
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page, openTimeout=400, upgradeInterval=200)
                await watcher.until("it.subscription.state === 'polling'")
                writing = asyncio.create_task(write_slowly(made))
                tried = len(obstacle.asked)
                await watcher.until("it.updates.length >= 30")
                assert any(path.endswith("/ws") for path in obstacle.asked[tried:])  # it is looked at again and again
                obstacle.refuse = NOTHING
                await watcher.until("it.subscription.state === 'connected'")
                assert (await watcher.get("transports"))[-1] == "sse"
                polls = sum(path.endswith("/updates") for path in obstacle.asked)
                await writing
                assert sum(path.endswith("/updates") for path in obstacle.asked) <= polls + 1  # one may be on its way
                await made.hub.close(EXECUTION)
                await watcher.ended()
                assert await watcher.get("updates") == list(range(1, 203))
                await made.nobody_is_left()


async def write_slowly(made: Any) -> None:
    for index in range(200):
        made.write(f"{index} ")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("first", ["sse", "websocket"])
async def test_a_server_that_is_away_is_waited_for_and_nothing_else_is_tried(first: str) -> None:
    transports = ["sse", "websocket", "rest"] if first == "sse" else ["websocket", "rest"]
    async with place(gateway={"transports": transports}) as made, AsyncExitStack() as stack:
        with made.serving():
            page = await stack.enter_async_context(page_at(made.url))
            made.write("one ")
            watcher = await watch(page)
            await watcher.until("it.updates.length >= 2")
            assert (await watcher.get("transports"))[-1] == first
        await watcher.until("it.states.filter((state) => state === 'reconnecting').length >= 6")
        assert (await watcher.get("transports"))[-1] == first
        with made.serving():
            await watcher.until("it.subscription.state === 'connected'")
            assert (await watcher.get("transports"))[-1] == first
            await ends_well(watcher, made)


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_a_connection_that_has_gone_silent_is_made_again(transport: str) -> None:
    settings: dict[str, object] = {"auth": {"enabled": False}, "gateway": {"heartbeat_interval": 0.3}}
    async with place(**settings) as made, AsyncExitStack() as stack:
        server = stack.enter_context(made.serving())
        proxy = await stack.enter_async_context(tcp_proxy(server.port))
        page = await stack.enter_async_context(page_at(f"http://{proxy.host}:{proxy.port}"))
        made.write("one ")
        watcher = await watch(page, transport, openTimeout=500)
        await watcher.until("it.updates.length >= 2")
        proxy.freeze()
        made.write("two ")
        await watcher.until("it.subscription.state === 'reconnecting'")
        codes = {error[1] for error in await watcher.get("errors")}
        assert codes <= {"silent", "unreachable", "lost"}
        proxy.reset()
        proxy.thaw()
        await made.hub.close(EXECUTION)
        await watcher.ended()
        assert await watcher.get("updates") == [1, 2, 3, 4]


async def test_a_stream_that_is_only_quiet_is_left_alone() -> None:
    obstacle = Obstacle()
    async with place(wrap=obstacle, gateway={"heartbeat_interval": 0.3}) as made:
        with made.serving():
            async with page_at(made.url) as page:
                made.write("one ")
                watcher = await watch(page, "sse")
                await watcher.until("it.updates.length >= 2")
                async with asyncio.timeout(PATIENCE):
                    # A stream that is found to be dead is made again 2 s after the server was asked first.
                    while obstacle.asked.count(f"/executions/{EXECUTION}") < 5:
                        await asyncio.sleep(0.05)
                assert sum(path.endswith("/stream") for path in obstacle.asked) == 1
                assert await watcher.get("states") == ["connecting", "connected"]


async def test_a_page_does_not_wait_when_the_network_is_back() -> None:
    async with place() as made:
        with made.serving():
            async with page_at(made.url) as page:
                made.write("one ")
                waits = {"initial": 600_000, "max": 600_000}
                watcher = await watch(page, "polling", backoff=waits)
                await watcher.until("it.updates.length >= 2")
                await page.context.set_offline(True)
                made.write("two ")
                await watcher.until("it.subscription.state === 'reconnecting'")
                await page.context.set_offline(False)
                await watcher.until("it.updates.length >= 3")


async def test_a_page_that_goes_into_the_cache_and_comes_back_goes_on() -> None:
    async with place() as made:
        with made.serving():
            async with page_at(made.url) as page:
                made.write("one ")
                watcher = await watch(page, "websocket")
                await watcher.until("it.updates.length >= 2")
                await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
                await made.nobody_is_left()
                made.write("two ")
                await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
                await watcher.until("it.updates.length >= 3")
                assert await watcher.texts() == ["one two "]
