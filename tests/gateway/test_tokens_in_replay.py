"""Tokens that end, are renewed or are called back while a long history is being sent."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import jwt
import pytest

from tests.gateway.contract.adapters import (
    READERS,
    SOCKETS,
    Item,
    Reader,
    Readers,
    SocketReader,
    position,
    readers_of,
    until_over,
    updates_in,
)
from tests.gateway.site import SECRET, Site, site
from tests.gateway.test_faults import covered

UPDATES = 150
LAST = UPDATES + 2
ROOM: dict[str, Any] = {
    "auth": {"secret": SECRET, "leeway": 0},
    "limits": {"messages_per_second": None, "send_timeout": 30},
    "retention": {"max_updates": 100_000, "max_bytes": 1 << 30},
}


PLAIN = {"Accept-Encoding": "identity"}
"""Compressed, it would all be in the buffers at once."""


def token(lifetime: float = 600, jti: str = "1") -> str:
    return jwt.encode({"sub": "alice", "exp": time.time() + lifetime, "jti": jti}, SECRET, "HS256")


async def fill(place: Site) -> None:
    """30 MB: far more than lies between a server and a client that stopped reading early."""
    place.hub.open("e", owner="alice")
    for _ in range(UPDATES):
        place.hub.publish("e", "note", {"fill": "x" * 200_000})
    await place.hub.close("e")


async def some(reader: Reader) -> list[Item]:
    """The first few updates."""
    items: list[Item] = []
    while len(updates_in(items)) < 20:
        items.append(await reader.next())
    return items


async def rest(readers: Readers, place: Site, items: list[Item], jti: str) -> list[Item]:
    """Return the updates of a reader that returns with a valid token."""
    reader = readers(place.server, token=token(jti=jti))
    await reader.subscribe("e", after=position(updates_in(items)[-1]), batch=True)
    return await until_over(reader)


@pytest.fixture(params=READERS)
async def readers(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    async with readers_of(READERS[request.param]) as made:
        yield made


@pytest.mark.parametrize("end", ["expired", "revoked"])
async def test_what_a_token_that_ended_kept_back_comes_with_another(
    readers: Readers, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lg_streaming.gateway.transports.connection._EXPIRY_GRACE", 0.2)
    with site(**ROOM, gateway={"heartbeat_interval": 0.1}) as place:
        await fill(place)
        expires = time.time() + 0.5
        reader = readers(place.server, token=token(0.5 if end == "expired" else 600), headers=PLAIN)
        await reader.subscribe("e")
        items = await some(reader)
        if end == "revoked":
            place.gateway.policy.revoke(jti="1")
        await asyncio.sleep(max(0.3, expires + 0.1 - time.time()))
        items += await until_over(reader)
        assert 20 <= covered(items) < LAST, "it got everything, or the token ended before anything came"
        assert [item.payload["code"] for item in items if item.what == "error"] == [4011 if end == "expired" else 4010]
        assert covered(items + await rest(readers, place, items, "2")) == LAST


@pytest.mark.parametrize("transport", SOCKETS)
async def test_a_fresh_token_in_mid_replay_loses_and_repeats_nothing(transport: str) -> None:
    with site(**ROOM) as place:
        await fill(place)
        async with readers_of(SOCKETS[transport]) as readers:
            expires = time.time() + 0.5
            reader = readers(place.server, token=token(0.5))
            assert isinstance(reader, SocketReader)
            await reader.subscribe("e", batch=True)
            items = await some(reader)
            await asyncio.sleep(max(0.1, expires + 0.1 - time.time()))
            assert (await reader.ask("authenticate", {"token": token()}))["expires_in_s"] > 500
            assert covered(items + await until_over(reader)) == LAST
