"""Under all faults of the connection a reader has exactly 1..N in the end, or a gap that names missing updates."""

import asyncio
import os
import random
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from websockets.exceptions import WebSocketException

from tests.gateway.contract.adapters import (
    LASTING,
    READERS,
    Address,
    Item,
    Reader,
    Readers,
    RefusedError,
    numbers,
    position,
    readers_of,
    until_over,
    updates_in,
)
from tests.gateway.site import Site, site
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

PATIENCE = 60.0
ATTACHED = 15 if os.environ.get("CI") else 8
FREE: dict[str, Any] = {"messages_per_second": None, "connects_per_address": None}
FORWARDED: dict[str, Any] = {"enabled": False}
"""A forwarder has another port, so its callers do not count as local."""
_BROKEN = (OSError, EOFError, RefusedError, StopAsyncIteration, httpx2.HTTPError, WebSocketException)


@pytest.fixture(params=READERS)
async def readers(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    async with readers_of(READERS[request.param]) as made:
        yield made


@pytest.fixture(params=LASTING)
async def lasting(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    async with readers_of(LASTING[request.param]) as made:
        yield made


def covered(items: list[Item], after: int = 0) -> int:
    """Return the last reported number; fail unless all before it came once, in order, or lie in a gap."""
    last = after
    for item in items:
        if item.what == "gap":
            assert item.payload["from"] == last + 1, f"a gap from {item.payload['from']} after {last}"
            last = item.payload["to"]
        for number in numbers(updates_in([item])):
            assert number == last + 1, f"{number} came after {last}"
            last = number
    return last


@contextmanager
def producing(place: Site, execution_id: str, pause: float = 0.0005) -> Generator[threading.Event]:
    """A thread that publishes until `stop`; the run is open."""
    stop = threading.Event()

    def publish() -> None:
        index = 0
        while not stop.wait(pause):
            place.tokens(execution_id, 5, start=index)
            index += 5

    place.hub.open(execution_id)
    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


# ---------------------------------------------------------------- lines that break
async def attempt(reader: Reader, count: int, got: list[Any], **options: Any) -> list[Item]:
    """Reads until so many updates have come or the line is gone; all that came, in order."""
    items: list[Item] = []
    try:
        await reader.subscribe("e", **({"after": position(got[-1])} if got else {}), **options)
        while len(updates_in(items)) < count:
            items.append(await reader.next())
            if items[-1].what in {"closed", "end"}:
                break
    except _BROKEN:
        pass
    return items


async def torn(readers: Readers, proxy: TcpProxy, rng: random.Random, got: list[Any], last: int) -> int:
    """One connection, from where the one before stopped, and its end; returns the last number that came."""
    reader = readers(proxy)
    fault = rng.choice(["reset", "finish", "cut", "freeze", "client", "goodbye", "after a byte"])
    proxy.cut_after = (
        rng.randrange(1, 20_000) if fault == "cut" else rng.randrange(900) if fault == "after a byte" else None
    )
    items = await attempt(reader, rng.randrange(0, 120), got, batch=rng.random() < 0.5)
    match fault:
        case "reset":
            proxy.reset()
        case "finish":
            proxy.finish()
        case "freeze":
            proxy.freeze()
            await asyncio.sleep(0.01)
            proxy.reset()
            proxy.thaw()
        case "client":
            reader.cut()
        case _:
            pass
    await reader.aclose()
    readers.made.remove(reader)
    proxy.cut_after = None
    got += updates_in(items)
    return covered(items, last)


async def tear(place: Site, readers: Readers, drops: int, seed: int) -> None:
    rng = random.Random(seed)
    got: list[Any] = []
    last = 0
    async with tcp_proxy(place.server.port) as proxy:
        with producing(place, "e") as stop:
            for _ in range(drops):
                last = await torn(readers, proxy, rng, got, last)
            stop.set()
        await place.hub.close("e")
        state = await place.hub.describe("e")
        assert state is not None
        items = await attempt(readers(place.server), 10**9, got, batch=True)
        last = covered(items, last)
        got += updates_in(items)
    assert last == state.head
    assert got[-1]["type"] == "workflow_complete"


@pytest.mark.row("FLOW-46")
@pytest.mark.parametrize("seed", range(2))
async def test_lines_that_break_lose_nothing_and_repeat_nothing(readers: Readers, seed: int) -> None:
    with site(auth=FORWARDED, limits=FREE, retention={"max_updates": 1_000_000, "max_bytes": 1 << 30}) as place:
        await tear(place, readers, 10, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(7))
async def test_lines_that_break_hundreds_of_times(readers: Readers, seed: int) -> None:
    with site(auth=FORWARDED, limits=FREE, retention={"max_updates": 10_000_000, "max_bytes": 1 << 32}) as place:
        await tear(place, readers, 100, seed)


async def test_with_little_retention_what_is_missing_is_said(readers: Readers) -> None:
    with site(auth=FORWARDED, limits=FREE, retention={"max_updates": 200}) as place:
        await tear(place, readers, 6, 3)


# ---------------------------------------------------------------- positions
async def test_resuming_before_the_first_update_twice_in_a_row_at_the_head_and_at_the_oldest(readers: Readers) -> None:
    with site(auth=FORWARDED, limits=FREE, retention={"max_updates": 10}) as place:
        early = readers(place.server)
        await early.subscribe("e")
        early.cut()
        twice = readers(place.server)
        await twice.subscribe("e")
        if twice.duplex:
            await twice.subscribe("e")
        place.tokens("e", 4)
        state = await place.hub.describe("e")
        assert state is not None
        at_head = readers(place.server)
        await at_head.subscribe("e", after=f"{state.epoch}:{state.head}")
        place.tokens("e", 4)
        await place.hub.close("e")
        assert covered(await until_over(twice)) == 10
        assert covered(await until_over(at_head), 5) == 10
        place.hub.open("e")
        place.tokens("e", 4)
        await place.hub.close("e")
        oldest = await place.hub.log.state("e")
        assert oldest is not None
        for after, gap in ((oldest.oldest - 1, False), (oldest.oldest - 2, True), (oldest.head + 5, True)):
            reader = readers(place.server)
            answer = await reader.subscribe("e", after=f"{state.epoch}:{after}")
            assert answer["recovered"] is not gap
            items = await until_over(reader)
            assert (items[0].what == "gap") is gap
            if after <= oldest.head:
                assert covered(items, after) == oldest.head


async def test_attaching_while_updates_come_at_full_speed(readers: Readers) -> None:
    with site(auth=FORWARDED, limits=FREE, retention={"max_updates": 1_000_000, "max_bytes": 1 << 30}) as place:

        async def attach(delay: float) -> list[Item]:
            await asyncio.sleep(delay)
            reader = readers(place.server)
            await reader.subscribe("e", batch=True)
            return await until_over(reader)

        with producing(place, "e", pause=0.0001) as stop:
            reading = [asyncio.create_task(attach(0.3 * number / ATTACHED)) for number in range(ATTACHED)]
            await asyncio.sleep(0.4)
            stop.set()
        await place.hub.close("e")
        state = await place.hub.describe("e")
        assert state is not None
        for items in await asyncio.gather(*reading):
            assert covered(items) == state.head


# ---------------------------------------------------------------- slow and silent lines
async def test_a_slow_line_gets_everything(readers: Readers) -> None:
    with site(auth=FORWARDED, limits=FREE) as place:
        async with tcp_proxy(place.server.port) as proxy:
            proxy.bytes_per_second, proxy.delay = 400_000, 0.002
            reader = readers(proxy)
            await reader.subscribe("e")
            with producing(place, "e", pause=0.01) as stop:
                await asyncio.sleep(0.5)
                stop.set()
            await place.hub.close("e")
            state = await place.hub.describe("e")
            assert state is not None
            assert covered(await until_over(reader)) == state.head


async def test_what_is_evicted_while_a_line_is_silent_is_a_gap(readers: Readers) -> None:
    with site(auth=FORWARDED, limits=FREE, retention={"max_updates": 300, "max_bytes": 1 << 30}) as place:
        place.hub.open("e")
        for _ in range(300):
            place.hub.publish("e", "note", {"fill": "x" * 20_000})
        async with tcp_proxy(place.server.port) as proxy:
            reader = readers(proxy)
            await reader.subscribe("e")
            proxy.freeze()
            for _ in range(600):
                place.hub.publish("e", "note", {"fill": "x" * 20_000})
            await place.hub.close("e")
            proxy.thaw()
            items = await until_over(reader)
    assert [item.what for item in items if item.what == "gap"]
    assert covered(items) == 902


async def gone(place: Site, connections: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while place.gateway.connections > connections or place.hub.statistics().subscriptions > connections:
            await asyncio.sleep(0.01)


@pytest.mark.row("FLOW-43")
async def test_half_open_lines_are_noticed_and_cost_the_others_nothing(lasting: Readers) -> None:
    limits: dict[str, Any] = {**FREE, "send_timeout": 0.5}
    with site(auth=FORWARDED, limits=limits, retention={"max_updates": 100_000, "max_bytes": 1 << 30}) as place:
        async with tcp_proxy(place.server.port) as proxy:
            await _attached(lasting, proxy, 3)
            (well,) = await _attached(lasting, place.server, 1)
            reading = asyncio.create_task(until_over(well))
            proxy.freeze()
            rng = random.Random(1)
            for _ in range(2_000):  # nothing that compression could make small enough for the kernel's buffers
                place.hub.publish("e", "note", {"fill": rng.randbytes(5_000).hex()})
            await gone(place, 1)
            await place.hub.close("e")
            assert covered(await reading) == 2_002


async def _attached(readers: Readers, address: Address, count: int) -> list[Reader]:
    made = [readers(address) for _ in range(count)]
    for reader in made:
        await reader.subscribe("e")
    return made


@pytest.mark.row("FLOW-02")
async def test_half_open_lines_without_anything_to_say_are_noticed_by_a_ping() -> None:
    with site(auth=FORWARDED, limits=FREE, gateway={"ping_interval": 0.2, "ping_timeout": 0.2}) as place:
        async with tcp_proxy(place.server.port) as proxy, readers_of(READERS["socketio"]) as readers:
            await _attached(readers, proxy, 3)
            proxy.freeze()
            await gone(place, 0)
