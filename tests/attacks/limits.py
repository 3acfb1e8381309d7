"""Attacks on what is counted: many addresses, one who watches all that others do, logins that fail."""

import asyncio
import json
import time
from contextlib import AsyncExitStack

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.attacks.attack import Attack, Result, Target, bystander, raw_get

ADDRESSES = 3_000
EXECUTIONS = 1_500
LATE = 0.1
"""Seconds that others may wait."""


async def many_addresses(target: Target) -> Result:
    """Connect from thousands of addresses; each is to cost the same."""
    async with bystander(target) as others:
        gate = asyncio.Semaphore(20)

        async def knock(number: int) -> None:
            async with gate:
                await raw_get(target, "/executions", source=f"127.1.{number >> 8}.{number & 255}")

        first = await _connecting(target)
        await asyncio.gather(*(knock(number) for number in range(ADDRESSES)))
        last = await _connecting(target)
    return Result(
        bound="constant cost; 50,000 addresses are counted one by one, the others share 4,096 counters",
        seen=f"a connect took {first * 1000:.1f} ms, and {last * 1000:.1f} ms after {ADDRESSES} addresses; {others}",
        held=last < 3 * first + 0.005 and others.median < LATE,
    )


async def _connecting(target: Target) -> float:
    """The median of what a connect and login take."""
    took: list[float] = []
    for _ in range(15):
        began = time.perf_counter()
        async with connect(f"{target.ws_url}/ws", additional_headers=_bearer(target, "alice")) as socket:
            await socket.recv()
            took.append(time.perf_counter() - began)
    return sorted(took)[len(took) // 2]


async def watch_all(target: Target) -> Result:
    """Ask for all executions again and again, of which none may be read, while their owner publishes."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=target.url, timeout=20))
        for number in range(EXECUTIONS):
            await http.post(f"/publish/bob-{number}", params={"owner": "bob"})
        sockets = [
            await stack.enter_async_context(
                connect(f"{target.ws_url}/ws", additional_headers=_bearer(target, "mallory"), max_queue=None)
            )
            for _ in range(10)
        ]
        before = target.rss()
        others = await stack.enter_async_context(bystander(target))
        until = time.monotonic() + 5
        number, answered = 0, 0
        while time.monotonic() < until:
            answered += sum(await asyncio.gather(*(_ask_all(socket) for socket in sockets)))
            for _ in range(20):
                number += 1
                await http.post(f"/publish/bob-{number % EXECUTIONS}", params={"owner": "bob"})
        grown = target.rss() - before
    return Result(
        bound="an execution is looked at when it has something new; 1,000 denials are kept; 128 are open",
        seen=f"{answered} times over {EXECUTIONS} executions of another; {others}; memory grew by {grown:.1f} MiB",
        held=others.median < LATE and grown < 30,
    )


async def _ask_all(socket: ClientConnection) -> int:
    try:
        await socket.send(json.dumps({"type": "subscribe_events", "payload": {}}))
        while True:
            message = json.loads(await asyncio.wait_for(socket.recv(), 20))
            if message["type"] == "reply":
                return bool(message["payload"]["ok"])
    except ConnectionClosed:  # over `limits.messages_per_second`: who asks too often is closed
        return False


def _bearer(target: Target, subject: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {target.token(subject)}"}


ATTACKS: list[Attack] = [
    Attack("7", "connects from thousands of addresses", many_addresses),
    Attack("8", "watching all that others do", watch_all),
]
