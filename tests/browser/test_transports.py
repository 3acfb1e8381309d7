"""Every transport of the browser's module, in a real browser on a real server: exactly 1 to N under all faults."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.browser.place import EXECUTION, PATIENCE, SOCKETIO, TRANSPORTS, page_at, place, watch
from tests.gateway.site import SECRET
from tests.gateway.tokens import token
from tests.support.tcp_proxy import tcp_proxy

pytestmark = pytest.mark.browser

STREAMING_STATE = {"sse": "connected", "websocket": "connected", "polling": "polling", SOCKETIO: "connected"}


@pytest.mark.row("PYEV-17")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_run_is_watched_from_its_start_to_its_end(transport: str) -> None:
    async with place() as made:
        with made.serving():
            async with page_at(made.url) as page:
                made.write("before ")
                watcher = await watch(page, transport)
                await watcher.until("it.updates.length >= 2")
                made.write("live ")
                made.write("another", message_id="m2")
                await made.hub.close(EXECUTION)
                await watcher.ended()
                assert await watcher.get("updates") == [1, 2, 3, 4, 5]
                assert await watcher.get("types") == ["workflow_start", "token", "token", "token", "workflow_complete"]
                assert await watcher.texts() == ["before live ", "another"]
                assert await watcher.get("subscription.messages.every(({ complete }) => complete)")
                assert await watcher.get("states") == ["connecting", STREAMING_STATE[transport], "ended"]
                assert await watcher.get("transports") == [transport]
                assert str(await watcher.get("subscription.position")).endswith(":5")
                assert await page.evaluate("noted.subscription.done") is None
                if transport == SOCKETIO:
                    await page.evaluate("socket.close()")
                await made.nobody_is_left()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_connections_that_break_lose_and_repeat_nothing(transport: str) -> None:
    async with place(auth={"enabled": False}) as made:
        with made.serving() as server:
            async with tcp_proxy(server.port) as proxy, page_at(f"http://{proxy.host}:{proxy.port}") as page:
                watcher = await watch(page, transport)
                await watcher.until(f"it.states.includes('{STREAMING_STATE[transport]}')")
                for index in range(200):
                    made.write(f"{index} ")
                    if index in {30, 90, 150}:
                        await watcher.until(f"it.updates.length >= {index + 2}")
                        (proxy.finish if index == 90 else proxy.reset)()
                    await asyncio.sleep(0.004)
                await made.hub.close(EXECUTION)
                await watcher.ended()
                assert await watcher.get("updates") == list(range(1, 203))
                assert await watcher.texts() == ["".join(f"{index} " for index in range(200))]
                assert proxy.connections >= 4
                if transport != "polling":  # a browser may repeat a request that broke by itself
                    assert "reconnecting" in await watcher.get("states")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_server_that_restarts_is_waited_for(transport: str) -> None:
    async with place() as made, AsyncExitStack() as stack:
        with made.serving():
            page = await stack.enter_async_context(page_at(made.url))
            made.write("one ")
            watcher = await watch(page, transport)
            await watcher.until("it.updates.length >= 2")
            made.write("two ")
        await watcher.until("it.states.includes('reconnecting')")
        made.write("three ")
        with made.serving():
            await watcher.until("it.updates.length >= 4")
            await made.hub.close(EXECUTION)
            await watcher.ended()
        assert await watcher.get("updates") == [1, 2, 3, 4, 5]
        assert await watcher.texts() == ["one two three "]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_page_that_goes_leaves_nothing_on_the_server(transport: str) -> None:
    async with place() as made:
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page, transport)
                second = await watch(page, transport, execution_id="exec-2", name="second")
                for each in (watcher, second):
                    await each.until(f"it.states.includes('{STREAMING_STATE[transport]}')")
                await page.goto("about:blank")
                await made.nobody_is_left()


@pytest.mark.parametrize("transport", ["sse", "websocket", "polling"])
async def test_a_subscription_that_is_closed_leaves_nothing_on_the_server(transport: str) -> None:
    async with place() as made:
        with made.serving():
            async with page_at(made.url) as page:
                made.write("one ")
                watcher = await watch(page, transport)
                await watcher.until("it.updates.length >= 2")
                await page.evaluate("noted.subscription.close()")
                assert await page.evaluate("noted.subscription.done.then(() => noted.states.at(-1))") == "closed"
                await made.nobody_is_left()
                made.write("two ")
                assert await watcher.get("updates") == [1, 2]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_execution_that_is_not_yours_is_refused_once_and_for_good(transport: str) -> None:
    async with place(auth={"secret": SECRET}) as made:
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page, transport, execution_id="somebody-elses", token=token())
                await watcher.until("it.subscription.state === 'failed'")
                assert [error[0] for error in await watcher.get("errors")] == [4030]
                assert await watcher.get("states") == ["connecting", "failed"]
                assert await page.evaluate("noted.subscription.done.catch(({ code }) => code)") == 4030


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_that_does_not_hold_is_refused(transport: str) -> None:
    async with place(auth={"secret": SECRET}) as made:
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page, transport, token=token("another secret of thirty-two bytes"))
                await watcher.until("it.subscription.state === 'failed'")
                assert {error[0] for error in await watcher.get("errors")} == {4010}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_that_expires_is_renewed_and_nothing_is_lost(transport: str) -> None:
    async with place(auth={"secret": SECRET, "leeway": 0}, lifetime=1.2) as made:
        made.hub.open(EXECUTION, owner="alice")
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page, transport, tokenFrom="/my-token")
                await watcher.until("it.updates.length >= 1")
                made.tokens_made = 0
                count = 0
                async with asyncio.timeout(PATIENCE):
                    while made.tokens_made < 2 or count < 50:
                        made.write(f"{count} ")
                        count += 1
                        await asyncio.sleep(0.05)
                await made.hub.close(EXECUTION)
                await watcher.ended()
                assert await watcher.get("updates") == list(range(1, count + 3))
                assert "failed" not in await watcher.get("states")


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_a_page_without_a_token_gets_tickets_from_its_own_server(transport: str) -> None:
    async with place(auth={"secret": SECRET}) as made:
        made.hub.open(EXECUTION, owner="alice")
        with made.serving() as server:
            async with tcp_proxy(server.port) as proxy, page_at(f"http://{proxy.host}:{proxy.port}") as page:
                watcher = await watch(page, transport, ticketFrom="/my-ticket")
                await watcher.until("it.updates.length >= 1")
                proxy.reset()  # a ticket is good for one connection: the next one needs another
                made.write("one ")
                await made.hub.close(EXECUTION)
                await watcher.ended()
                assert await watcher.get("updates") == [1, 2, 3]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_updates_that_are_gone_are_told_and_the_rest_comes(transport: str) -> None:
    async with place(retention={"max_updates": 50}) as made:
        for index in range(100):
            made.write(f"{index} ")
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page, transport)
                await watcher.until("it.updates.length >= 50")
                (gap,) = await watcher.get("gaps")
                seen = await watcher.get("updates")
                assert gap["reason"] == "evicted"
                assert (gap["from"], gap["to"]) == (1, seen[0] - 1)
                assert seen == list(range(seen[0], 102))
                await page.evaluate("noted.subscription.close()")
                failing = await watch(page, transport, gap="fail", name="failing")
                await failing.until("it.subscription.state === 'failed'")
                assert (await failing.get("errors"))[-1][0] == 4091
                assert await failing.get("updates") == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_server_that_lost_its_log_is_not_mixed_up_with_the_one_before(transport: str) -> None:
    async with place() as before, place() as made, AsyncExitStack() as stack:
        with before.serving():
            page = await stack.enter_async_context(page_at(before.url))
            before.write("before")
            watcher = await watch(page, transport)
            await watcher.until("it.updates.length >= 2")
        made.write("after")
        made.come_back_as(before)
        with made.serving():
            await watcher.until("it.gaps.length > 0")
            await made.hub.close(EXECUTION)
            await watcher.ended()
        assert await watcher.texts() == ["after"]
        assert (await watcher.get("gaps"))[0]["reason"] == "epoch_changed"
        assert ["m1", ""] in await watcher.get("texts")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_filter_and_a_position_are_the_servers(transport: str) -> None:
    async with place() as made:
        made.write("old ")
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page, transport, after="latest", events=["token", "task:*"])
                await watcher.until(f"it.states.includes('{STREAMING_STATE[transport]}')")
                made.hub.publish(EXECUTION, "task:started", {})
                made.hub.publish(EXECUTION, "progress", {"progress": 50})
                made.write("new ")
                await made.hub.close(EXECUTION)
                await watcher.ended()
                assert await watcher.get("types") == ["task:started", "token"]
                assert await watcher.get("updates") == [3, 5]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("has_begun", [True, False])
async def test_who_wants_the_latest_misses_nothing_from_then_on(transport: str, has_begun: bool) -> None:
    async with place() as made, AsyncExitStack() as stack:
        with made.serving():
            page = await stack.enter_async_context(page_at(made.url))
            if has_begun:
                made.write("old ")
            watcher = await watch(page, transport, after="latest")
            await watcher.until(f"it.states.includes('{STREAMING_STATE[transport]}')")
        await watcher.until("it.states.includes('reconnecting')")
        made.write("while it was away ")
        with made.serving():
            await watcher.until("it.updates.length >= 1")
            await made.hub.close(EXECUTION)
            await watcher.ended()
        assert await watcher.get("updates") == ([3, 4] if has_begun else [1, 2, 3])


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_follows_stays_for_the_next_run(transport: str) -> None:
    async with place() as made:
        made.write("one ")
        await made.hub.close(EXECUTION)
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page, transport, follow=True)
                await watcher.until("it.types.includes('workflow_complete')")
                made.write("two ", message_id="m2")
                await watcher.until("it.types.filter((type) => type === 'token').length === 2")
                assert await watcher.texts() == ["one ", "two "]
                assert await watcher.get("updates") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_new_attempt_begins_its_text_afresh(transport: str) -> None:
    async with place() as made:
        made.write("wrong ")
        with made.serving():
            async with page_at(made.url) as page:
                watcher = await watch(page, transport)
                await watcher.until("it.updates.length >= 2")
                assert await watcher.texts() == ["wrong "]
                made.write("right", attempt=2, message_id="m2")
                await watcher.until("it.updates.length >= 3")
                assert await watcher.texts() == ["right"]
                assert await watcher.get("texts") == [["m1", "wrong "], ["m1", ""], ["m2", "right"]]
