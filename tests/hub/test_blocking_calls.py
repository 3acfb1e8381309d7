"""Blocking calls on the thread of a running event loop: refused where they would stop what they wait for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex.operators as ops

from lg_streaming.errors import BlockingCallError
from lg_streaming.hub import StreamHub
from lg_streaming.sinks import CallbackSink
from lg_streaming.views import TokenStreamingService

pytestmark = pytest.mark.anyio

PIPES: dict[str, list[Any]] = {
    "plain": [],
    "mapped": [ops.map(repr)],
    "piped": [ops.filter(lambda _: True), ops.take(1), ops.to_list()],
    "shared": [ops.share()],
    "merged": [ops.flat_map(lambda update: [update])],
}


@pytest.mark.parametrize("pipe", PIPES.values(), ids=PIPES)
async def test_run_of_an_observable_is_refused_at_once(hub: StreamHub, pipe: list[Any]) -> None:
    hub.open("e")
    with pytest.raises(BlockingCallError, match=r"Observable\.run\(\) blocks.*await the observable"):
        hub.observe("e").pipe(*pipe).run()
    assert hub.statistics().subscriptions == 0


async def test_run_of_token_streams_is_refused_at_once(hub: StreamHub) -> None:
    service = TokenStreamingService(hub)
    for observable in (service.get_token_stream("e"), service.get_global_token_stream()):
        with pytest.raises(BlockingCallError):
            observable.run()


@pytest.mark.parametrize("pipe", [PIPES["plain"], PIPES["shared"]], ids=["plain", "shared"])
async def test_what_is_awaited_works(hub: StreamHub, pipe: list[Any]) -> None:
    hub.open("e")
    await hub.close("e")
    assert (await hub.observe("e").pipe(*pipe)).type == "workflow_complete"
    assert (await hub.observe("e").pipe(*pipe).pipe(ops.to_future())).type == "workflow_complete"
    updates = await hub.observe("e").pipe(*pipe).pipe(ops.to_list())
    assert [update.type for update in updates] == ["workflow_start", "workflow_complete"]


async def test_run_works_in_another_thread_and_where_updates_come_from_one(hub: StreamHub) -> None:
    hub.open("e")
    await hub.close("e")
    assert (await asyncio.to_thread(lambda: hub.observe("e").run())).type == "workflow_complete"
    assert hub.observe("e", in_thread=True).run().type == "workflow_complete"


def test_run_works_without_an_event_loop() -> None:
    hub = StreamHub()
    hub.open("e")
    asyncio.run(hub.close("e"))
    assert hub.observe("e").run().type == "workflow_complete"
    asyncio.run(hub.aclose())


async def test_join_is_refused_and_wait_works(hub: StreamHub) -> None:
    attachment = hub.attach("e", CallbackSink(lambda _: None))
    for timeout in (None, 0.0, 5.0):
        with pytest.raises(BlockingCallError, match=r"Attachment\.join\(\) blocks.*await attachment\.wait\(\)"):
            attachment.join(timeout)
    hub.open("e")
    await hub.close("e")
    await attachment.wait()
    with pytest.raises(BlockingCallError):  # the same answer, however far it is
        attachment.join()
