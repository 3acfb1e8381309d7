"""A reader that is slower than the run: nothing piles up with the client, and nothing is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lg_streaming.client import SocketIOClient
from tests.client.conftest import PATIENCE, Heard, Make, Place, place_with, read_all, seqs

TEXT = "x" * 2_000


def publish(place: Place, count: int, name: str = "e") -> None:
    for _ in range(count):
        place.hub.publish(name, "token", {"content": TEXT})


async def test_a_slow_reader_gets_everything(make: Make) -> None:
    """Buffers are bounded: the network's own over Server-Sent Events, `backlog` over Socket.IO."""
    async with place_with(
        limits={"send_timeout": 0.5, "messages_per_second": None, "connects_per_address": None}
    ) as place:
        with place.serving():
            options: dict[str, Any] = {"backlog": 100} if make.kind == "socketio" else {}
            client = make(place.url, **options)
            got: list[int] = []
            publish(place, 3_000)
            await place.hub.close("e")
            async with asyncio.timeout(PATIENCE):
                async for update in client.subscribe("e"):
                    got.append(update.metadata.sequence_number)
                    if got[-1] in {2, 1_500}:
                        await asyncio.sleep(1.2)  # longer than the server bears
            assert got == list(range(1, 3_003))
            assert client.statistics().gaps == 0


async def test_over_socket_io_no_more_than_the_backlog_waits(place: Place) -> None:
    async with SocketIOClient(place.url, backlog=50) as client:
        publish(place, 2_000)
        subscription = client.subscribe("e")
        most, got = 0, 0
        async with asyncio.timeout(PATIENCE):
            async for update in subscription:
                got += 1
                assert update.metadata.sequence_number == got
                most = max(most, subscription.waiting)
                if got % 200 == 0:
                    await asyncio.sleep(0.02)
                if got == 2_000:
                    await place.hub.close("e")
        assert got == 2_002
        assert 50 <= most <= 50 + 65_536 // 2_000 + 1, "the backlog, and one message more"


async def test_over_socket_io_a_slow_reader_holds_up_no_other(place: Place) -> None:
    async with SocketIOClient(place.url, backlog=20) as client:
        for name in ("slow", "fast"):
            publish(place, 500, name)
        slow = client.subscribe("slow").__aiter__()
        assert seqs([await anext(slow)]) == [1]
        await place.hub.close("fast")
        assert seqs(await read_all(client, "fast")) == list(range(1, 503))
        await place.hub.close("slow")
        rest = [update.metadata.sequence_number async for update in slow]
        assert rest == list(range(2, 503))
        assert client.statistics().connections == 1


async def test_a_reader_that_falls_behind_what_is_kept_is_told(make: Make) -> None:
    async with place_with(retention={"max_updates": 100}) as place:
        with place.serving():
            options: dict[str, Any] = {"backlog": 10} if make.kind == "socketio" else {}
            client = make(place.url, **options)
            heard = Heard(client)
            covered: list[int] = []
            place.tokens("e", 1)
            async with asyncio.timeout(PATIENCE):
                async for update in client.subscribe("e", batch=False):
                    if update.type == "gap":
                        covered += range(update.data["from"], update.data["to"] + 1)
                    else:
                        covered.append(update.metadata.sequence_number)
                    if covered == [1]:
                        # far more than the way to the reader holds
                        for _ in range(40):
                            publish(place, 250)
                            await asyncio.sleep(0.01)
                        await place.hub.close("e")
            assert covered == list(range(1, 10_004))
            assert heard.of("gap")


async def test_many_subscriptions_keep_to_the_servers_pace() -> None:
    """A client that comes back with many subscriptions would be thrown out if it asked for all of them at once."""
    async with place_with(limits={"messages_per_second": 20, "message_burst": 40}) as place:
        with place.serving():
            async with SocketIOClient(place.url) as client:
                heard = Heard(client)
                names = [f"run-{n}" for n in range(60)]
                for name in names:
                    place.tokens(name, 1)
                    await place.hub.close(name)
                await asyncio.gather(*(read_all(client, name) for name in names))
                assert heard.of("error") == []
                assert client.statistics().connections == 1


def test_a_backlog_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="backlog"):
        SocketIOClient("http://127.0.0.1:1", backlog=0)
