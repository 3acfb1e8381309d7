"""Readers and sinks that are used twice at once: it works, or it is refused in one sentence."""

from __future__ import annotations

import asyncio
import threading

import pytest

from lg_streaming.errors import BadRequestError
from lg_streaming.hub import StreamHub
from lg_streaming.sinks import CallbackSink

pytestmark = pytest.mark.anyio


async def test_a_subscription_is_read_by_one_loop_at_a_time(hub: StreamHub) -> None:
    hub.open("e")
    subscription = hub.subscribe("e")
    got: list[str] = []
    first = asyncio.Event()

    async def read() -> None:
        async for update in subscription:
            got.append(update.type)
            first.set()

    reading = asyncio.create_task(read())
    await first.wait()
    for loop in (subscription.__aiter__(), subscription.batches()):
        with pytest.raises(BadRequestError, match="subscribe once for each reader"):
            await anext(loop)
    hub.emitter("e").token("x")
    await hub.close("e")
    await reading
    assert got == ["workflow_start", "token", "workflow_complete"]  # the other loops took nothing away


async def test_two_tasks_that_wait_for_a_page(hub: StreamHub) -> None:
    hub.open("e")
    subscription = hub.subscribe("e", after="latest")
    waiting = asyncio.create_task(subscription.next_page())
    await asyncio.sleep(0)
    with pytest.raises(BadRequestError, match="subscribe once for each reader"):
        await subscription.next_page()
    hub.emitter("e").token("x")
    assert [record.type for record in (await waiting).records] == ["token"]
    waiting = asyncio.create_task(subscription.next_page())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    hub.emitter("e").token("y")
    assert len((await subscription.next_page()).records) == 1  # a wait that was cancelled is none any more
    subscription.close()


async def test_a_loop_that_was_left_says_how_to_read_on(hub: StreamHub) -> None:
    hub.open("e")
    hub.emitter("e").token("x")
    await hub.close("e")
    subscription = hub.subscribe("e")
    updates = subscription.batches(1)
    await anext(updates)
    with pytest.raises(BadRequestError, match=r"after=subscription\.position"):
        await anext(subscription.batches())
    await updates.aclose()
    rest = [update.type async for update in hub.subscribe("e", after=subscription.position)]
    assert rest == ["token", "workflow_complete"]


async def test_one_sink_twice_at_one_execution_is_one_attachment(hub: StreamHub) -> None:
    got: list[str] = []
    sink = CallbackSink(lambda update: got.append(update.type))
    made = [hub.attach("e", sink)]
    threads = [threading.Thread(target=lambda: made.append(hub.attach("e", sink))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    hub.open("e")
    await hub.close("e")
    await asyncio.gather(*[attachment.wait() for attachment in made])  # several may wait for one
    assert len(set(map(id, made))) == 1
    assert got == ["workflow_start", "workflow_complete"]


async def test_one_sink_at_two_executions(hub: StreamHub) -> None:
    sink = CallbackSink(lambda _: None)
    attachment = hub.attach("e", sink)
    with pytest.raises(BadRequestError, match="shared=True"):
        hub.attach("f", sink)
    attachment.detach()
    await attachment.wait()


async def test_a_sink_that_is_closed_is_refused(hub: StreamHub) -> None:
    sink = CallbackSink(lambda _: None)
    attachment = hub.attach("e", sink)
    attachment.detach()
    await attachment.wait()
    with pytest.raises(BadRequestError, match="is closed: make another one"):
        hub.attach("e", sink)
    assert hub.sinks.attached("e") == []
    assert hub.statistics().subscriptions == 0


async def test_one_attachment_is_joined_by_several_threads(hub: StreamHub) -> None:
    attachment = hub.attach("e", CallbackSink(lambda _: None))
    joining = [asyncio.create_task(asyncio.to_thread(attachment.join, 20.0)) for _ in range(3)]
    hub.open("e")
    await hub.close("e")
    await asyncio.gather(*joining)
    assert attachment.reason == "completed"
