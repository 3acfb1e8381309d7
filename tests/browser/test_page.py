"""The browser's module in a page: a reload, several executions, control, other origins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from tests.browser.place import EXECUTION, PATIENCE, page_at, place, watch
from tests.gateway.site import SECRET

pytestmark = pytest.mark.browser


async def test_a_reload_shows_the_text_at_once_and_asks_only_for_what_is_new() -> None:
    async with place() as made:
        made.write("one ")
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page, "sse", resume=True)
                await watcher.until("it.updates.length >= 2")
                await page.reload()
                made.write("two ")
                async with page.expect_request("**/stream?*") as request:
                    watcher = await watch(page, "sse", resume=True)
                assert "after=" in (await request.value).url
                await watcher.until("it.updates.length >= 1")
                assert await watcher.get("updates") == [3]
                assert await watcher.texts() == ["one two "]
                assert await watcher.get("texts") == [["m1", "one "], ["m1", "one two "]]
                await made.hub.close(EXECUTION)
                await watcher.ended()
                await page.reload()
                requests: list[str] = []
                page.on("request", lambda request: requests.append(request.url))
                watcher = await watch(page, "sse", resume=True)
                await watcher.ended()
                assert await watcher.texts() == ["one two "]
                assert not [url for url in requests if "/executions/" in url]


async def test_without_resume_a_reload_begins_at_the_start() -> None:
    async with place() as made:
        made.write("one ")
        with made.serving():
            async with page_at(made.url) as page:
                for _ in range(2):
                    watcher = await watch(page, "sse")
                    await watcher.until("it.updates.length >= 2")
                    assert await watcher.texts() == ["one "]
                    await page.reload()


async def test_what_is_too_large_to_keep_comes_again_from_the_start() -> None:
    async with place() as made:
        for _ in range(6):
            made.write("x" * 200_000)
        with made.serving():
            async with page_at(made.url) as page:
                for _ in range(2):
                    watcher = await watch(page, "sse", resume="my-key")
                    await watcher.until("it.updates.length >= 7")
                    assert await watcher.texts() == ["x" * 1_200_000]
                    await page.reload()
                    assert await page.evaluate("sessionStorage.length") == 0


async def test_whoever_asks_for_other_updates_than_before_gets_all_of_them() -> None:
    async with place() as made:
        made.write("one ")
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page, "sse", resume="my-key", events=["status"])
                await watcher.until("it.updates.length >= 1")
                await page.reload()
                assert await page.evaluate("Object.keys(sessionStorage)") == ["my-key"]
                watcher = await watch(page, "sse", resume="my-key")
                await watcher.until("it.updates.length >= 2")
                assert await watcher.get("updates") == [1, 2]


async def test_storage_that_is_full_is_no_harm() -> None:
    async with place() as made:
        made.write("one ")
        with made.serving():
            async with page_at(made.url) as page:
                await page.evaluate("sessionStorage.setItem('ballast', 'x'.repeat(5 * 1024 * 1024 - 20))")
                for _ in range(2):
                    watcher = await watch(page, "sse", resume=True)
                    await watcher.until("it.updates.length >= 2")
                    assert await watcher.texts() == ["one "]
                    await page.reload()


async def test_a_reload_after_the_server_began_anew_shows_only_what_is_there() -> None:
    async with place() as before, place() as made, AsyncExitStack() as stack:
        with before.serving():
            page = await stack.enter_async_context(page_at(before.url))
            before.write("before")
            watcher = await watch(page, "sse", resume=True)
            await watcher.until("it.updates.length >= 2")
        made.write("after")
        made.come_back_as(before)
        with made.serving():
            await page.reload()
            watcher = await watch(page, "sse", resume=True)
            await watcher.until("it.updates.length >= 2")
            assert await watcher.texts() == ["after"]
            assert (await watcher.get("gaps"))[0]["reason"] == "epoch_changed"


async def test_many_executions_share_a_web_socket_and_one_execution_may_be_watched_twice() -> None:
    async with place() as made:
        with made.serving():
            async with page_at(made.url) as page:
                await page.evaluate(
                    """async () => {
                        const { createClient } = await import("/lg-streaming.js");
                        const client = window.client = createClient({ transport: "websocket" });
                        window.seen = {};
                        const watch = (name, id) => {
                            seen[name] = [];
                            return client.subscribe(id, { onUpdate: ({ type }) => seen[name].push(type) });
                        };
                        window.subscriptions = [watch("a", "exec-1"), watch("b", "exec-2"), watch("c", "exec-3")];
                    }"""
                )
                await page.wait_for_function("subscriptions.every(({ state }) => state === 'connected')")
                assert made.gateway.connections == 1
                await page.evaluate("() => { subscriptions.push(client.subscribe('exec-1')); }")
                await page.wait_for_function("subscriptions.every(({ state }) => state === 'connected')")
                assert made.gateway.connections == 2
                for number in (1, 2, 3):
                    made.write("x", execution_id=f"exec-{number}")
                await page.wait_for_function("subscriptions.every(({ messages }) => messages.length === 1)")
                await page.evaluate("subscriptions[1].close()")
                await _until(lambda: made.hub.statistics().subscriptions == 3)
                assert made.gateway.connections == 2
                await page.evaluate("client.close()")
                await made.nobody_is_left()
                assert await page.evaluate("seen") == {name: ["workflow_start", "token"] for name in "abc"}


@pytest.mark.parametrize("transport", ["sse", "websocket", "socketio"])
async def test_a_subscription_that_is_made_again_at_once_misses_nothing(transport: str) -> None:
    async with place() as made:
        for index in range(500):
            made.write(f"{index} ")
        with made.serving():
            async with page_at(made.url) as page:
                first = await watch(page, transport, name="first")
                for round_ in range(5):
                    await first.until("it.updates.length >= 1")
                    await page.evaluate("first.subscription.close()")
                    first = await watch(page, transport, name="first")
                    made.write(f"again {round_} ")
                await made.hub.close(EXECUTION)
                await first.ended()
                assert await first.get("updates") == list(range(1, 508))


async def test_a_socket_of_the_page_watches_an_execution_once_and_stays_the_pages() -> None:
    async with place() as made:
        with made.serving():
            async with page_at(made.url) as page:
                made.write("one ")
                first = await watch(page, "socketio", name="first")
                await first.until("it.updates.length >= 2")
                second = await watch(page, "socketio", execution_id="exec-2", name="second")
                await second.until("it.subscription.state === 'connected'")
                await page.evaluate("first.subscription.close()")
                await page.evaluate("second.subscription.close()")
                await _until(lambda: made.hub.statistics().subscriptions == 0)
                assert await page.evaluate("socket.connected")
                await page.evaluate("socket.close()")


CONTROL = """async (transport) => {
    const { createClient } = await import("/lg-streaming.js");
    const client = createClient({ transport, token: async () => (await fetch("/my-token")).text() });
    const subscription = client.subscribe("acme/run-1");
    const isLive = () => ["connected", "polling"].includes(subscription.state);
    while (!isLive()) await new Promise((resolve) => setTimeout(resolve, 10));
    const wrong = await client.respond("acme/run-1", "none", 1).catch(({ code, codeName }) => [code, codeName]);
    const other = await client.cancel("somebody-elses").catch(({ code }) => code);
    const cancelled = await client.cancel("acme/run-1", "enough");
    await subscription.done;
    client.close();
    return [wrong, other, cancelled.cancelled];
}"""


@pytest.mark.parametrize("transport", ["sse", "websocket", "polling"])
async def test_a_page_answers_and_cancels(transport: str) -> None:
    async with place(auth={"secret": SECRET}, limits={"cancel_grace": 0.2}) as made:
        made.hub.open(EXECUTION, owner="alice")
        with made.serving():
            async with page_at(made.url) as page:
                assert await page.evaluate(CONTROL, transport) == [[4090, "no_such_prompt"], 4030, True]


async def test_a_page_of_another_origin_imports_the_module_and_watches_with_its_token() -> None:
    async with place() as elsewhere:
        with elsewhere.serving():
            async with place(
                auth={"secret": SECRET}, gateway={"cors_origins": [elsewhere.url], "prefix": "/live"}
            ) as made:
                made.hub.open(EXECUTION, owner="alice")
                made.write("one ")
                with made.serving():
                    async with page_at(elsewhere.url) as page:
                        where = {
                            "module": f"{made.url}/live/lg-streaming.js",
                            "url": f"{made.url}/live/",
                            "tokenFrom": "/my-token",
                        }
                        for transport in ("sse", "websocket", "polling"):
                            watcher = await watch(page, transport, name=transport, **where)
                            await watcher.until("it.updates.length >= 2")
                            assert await watcher.texts() == ["one "]


def first_words(execution_id: str) -> dict[str, str]:
    return {"shown": execution_id}


async def test_what_the_application_shows_first_is_given_to_the_page() -> None:
    async with place(initial_data=first_words) as made:
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page, "sse")
                await watcher.until("it.initial.length > 0")
                assert await watcher.get("initial") == [{"shown": EXECUTION}]


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.02)
