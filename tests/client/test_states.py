"""Both clients fare alike: the same states and events, in the same order, however a connection fares."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trustme

from lg_streaming.client import ClientEvent, Disconnected, StateChanged
from lg_streaming.client.events import EVENTS
from lg_streaming.errors import StreamingError
from tests.client.conftest import CLIENTS, PATIENCE, Heard, Make, Place, place_with, read_all
from tests.client.test_outage import answering, closed_port, says

_ = closed_port  # a fixture

BEGIN = ["state connecting", "connecting"]
LET_IN = ["state connected", "connected"]
LEFT = ["state disconnected", "disconnected for good"]
LOST = ["error", "state reconnecting", "disconnected", "reconnecting"]
"""A connection that was there, or a first try."""
AGAIN = ["connecting"]
LOST_AGAIN = ["error", "disconnected", "reconnecting"]
"""A later try."""
FAILED = ["error", "state failed", "disconnected for good"]


def shape(event: ClientEvent) -> str:
    if isinstance(event, StateChanged):
        return f"state {event.state}"
    if isinstance(event, Disconnected) and not event.will_reconnect:
        return "disconnected for good"
    return event.name


class Ride:
    """A running client, and its events."""

    def __init__(self, make: Make, url: str, **options: Any) -> None:
        self.client = make(url, **options)
        self.heard = Heard(self.client)
        self.reading = asyncio.create_task(read_all(self.client))

    async def end(self) -> str:
        """The end of the reading."""
        async with asyncio.timeout(PATIENCE):
            try:
                await self.reading
            except StreamingError as error:
                return type(error).__name__
        return "read"

    async def close(self) -> None:
        await self.client.aclose()
        await asyncio.gather(self.reading, return_exceptions=True)


Scenario = Callable[[Make, int], Awaitable[Ride]]


@asynccontextmanager
async def ended_run(**settings: Any) -> AsyncGenerator[Place]:
    async with place_with(**settings) as place:
        place.tokens("e", 1)
        await place.hub.close("e")
        yield place


async def reads_and_closes(make: Make, _: int) -> Ride:
    async with ended_run() as place:
        with place.serving():
            ride = Ride(make, place.url)
            await ride.end()
            await ride.close()
            return ride


async def closes_while_it_waits(make: Make, _: int) -> Ride:
    async with place_with() as place:
        with place.serving():
            ride = Ride(make, place.url)
            await ride.heard.until("connected")
            await ride.close()
            return ride


async def refused_then_there(make: Make, _: int) -> Ride:
    async with ended_run() as place:
        with place.serving():
            pass
        ride = Ride(make, place.url, reconnect_delay=0.3, max_reconnect_delay=30.0, jitter=0.0)
        await ride.heard.until("reconnecting")
        with place.serving():
            await ride.end()
            await ride.close()
        return ride


async def restarted(make: Make, _: int) -> Ride:
    async with place_with() as place:
        with place.serving():
            ride = Ride(make, place.url, reconnect_delay=1.0, jitter=0.0)
            good = asyncio.Event()
            ride.client.on_update(lambda _: good.set())
            place.tokens("e", 1)
            async with asyncio.timeout(PATIENCE):
                await good.wait()
        place.tokens("e", 1, start=1)
        with place.serving():
            await ride.heard.until("connected", 2)
            await place.hub.close("e")
            await ride.end()
            await ride.close()
        return ride


async def refused_without_end(make: Make, port: int) -> Ride:
    ride = Ride(make, f"http://127.0.0.1:{port}", max_reconnect_attempts=2)
    assert await ride.end() == "ConnectionLostError"
    await ride.close()
    return ride


async def out_of_time(make: Make, port: int) -> Ride:
    ride = Ride(make, f"http://127.0.0.1:{port}", give_up_after=1e-6, reconnect_delay=0.0)
    assert await ride.end() == "ConnectionLostError"
    await ride.close()
    return ride


async def one_try_only(make: Make, port: int) -> Ride:
    ride = Ride(make, f"http://127.0.0.1:{port}", auto_reconnect=False)
    assert await ride.end() == "ConnectionLostError"
    await ride.close()
    return ride


async def closes_while_it_tries_again(make: Make, port: int) -> Ride:
    ride = Ride(make, f"http://127.0.0.1:{port}", reconnect_delay=30.0, max_reconnect_delay=30.0)
    await ride.heard.until("reconnecting")
    await ride.close()
    return ride


async def silent(make: Make, _: int) -> Ride:
    async def nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with answering(nothing) as port:
        ride = Ride(make, f"http://127.0.0.1:{port}", connect_timeout=0.05, max_reconnect_attempts=1)
        assert await ride.end() == "ConnectionLostError"
        await ride.close()
        return ride


async def not_ours(make: Make, _: int) -> Ride:
    async with answering(says("404 Not Found")) as port:
        ride = Ride(make, f"http://127.0.0.1:{port}")
        assert await ride.end() == "ConnectionLostError"
        await ride.close()
        return ride


async def led_away(make: Make, _: int) -> Ride:
    async with answering(says("307 Temporary Redirect\r\nLocation: https://elsewhere.example/")) as port:
        ride = Ride(make, f"http://127.0.0.1:{port}")
        assert await ride.end() == "ConnectionLostError"
        await ride.close()
        return ride


async def untrusted(make: Make, _: int) -> Ride:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with answering(says("404 Not Found"), ssl=context) as port:
        ride = Ride(make, f"https://127.0.0.1:{port}", ssl_context=ssl.create_default_context())
        assert await ride.end() == "ConnectionLostError"
        await ride.close()
        return ride


async def not_let_in(make: Make, _: int) -> Ride:
    async with place_with(auth={"secret": "s" * 32}) as place:
        with place.serving():
            ride = Ride(make, place.url, token="no token")
            assert "Unauthorized" in await ride.end() or "Token" in await ride.end()
            await ride.close()
            return ride


async def one_fresh_token(make: Make, _: int) -> Ride:
    async with place_with(auth={"secret": "s" * 32}) as place:
        with place.serving():
            ride = Ride(make, place.url, token=lambda: "no token")
            await ride.end()
            await ride.close()
            return ride


SCENARIOS: dict[str, tuple[Scenario, list[str]]] = {
    "reads and closes": (reads_and_closes, [*BEGIN, *LET_IN, *LEFT]),
    "closes while it waits": (closes_while_it_waits, [*BEGIN, *LET_IN, *LEFT]),
    "refused, then there": (refused_then_there, [*BEGIN, *LOST, *AGAIN, *LET_IN, *LEFT]),
    "restarted": (restarted, [*BEGIN, *LET_IN, *LOST, *AGAIN, *LET_IN, *LEFT]),
    "given up": (refused_without_end, [*BEGIN, *LOST, *AGAIN, *LOST_AGAIN, *AGAIN, *FAILED]),
    "out of time": (out_of_time, [*BEGIN, *FAILED]),
    "one try only": (one_try_only, [*BEGIN, "error", "state disconnected", "disconnected for good"]),
    "closes while it tries again": (closes_while_it_tries_again, [*BEGIN, *LOST, *LEFT]),
    "silent": (silent, [*BEGIN, *LOST, *AGAIN, *FAILED]),
    "not ours": (not_ours, [*BEGIN, *FAILED]),
    "led away": (led_away, [*BEGIN, *FAILED]),
    "untrusted": (untrusted, [*BEGIN, *FAILED]),
    "not let in": (not_let_in, [*BEGIN, *FAILED]),
    "one fresh token": (one_fresh_token, [*BEGIN, *LOST, *AGAIN, *FAILED]),
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_clients_fare_alike(make: Make, name: str, closed_port: int) -> None:
    scenario, expected = SCENARIOS[name]
    ride = await scenario(make, closed_port)
    assert [shape(event) for event in ride.heard.events] == expected


async def test_listeners_by_name_hear_the_same_of_both_clients(place: Place) -> None:
    """Each name that a client knows can be listened to on the other, and the counts are equal."""
    place.tokens("e", 3)
    await place.hub.close("e")
    told: dict[str, list[tuple[str, str]]] = {}
    for kind, make in CLIENTS.items():
        told[kind] = []
        async with make(place.url) as client:
            for name in EVENTS:
                client.on(name, partial(_note, told[kind], name))
            await read_all(client)
    assert told["sse"] == told["socketio"]
    assert {name for name, _ in told["sse"]} == {"connecting", "connected", "disconnected", "state"}


def _note(told: list[tuple[str, str]], name: str, event: ClientEvent) -> None:
    told.append((name, shape(event)))
