"""Readers that acknowledge, on a real server: what they do not acknowledge comes again."""

import asyncio
import json
from typing import Any

import pytest

from tests.gateway.site import RawClient, Site, raw_client, site

QUICK: dict[str, Any] = {"gateway": {"ack_timeout": 0.3}, "limits": {"messages_per_second": None}}


async def update(client: RawClient) -> tuple[int, str]:
    """Number and position of the next update, of whatever kind."""
    while True:
        text = await client.receive()
        if not text.startswith("42["):
            continue
        message: list[Any] = json.loads(text[2:])
        name, payload = str(message[0]), message[1]
        if name in {"token", "status", "event", "progress"}:
            metadata = payload["metadata"]
            return metadata["sequence_number"], f"{metadata['epoch']}:{metadata['sequence_number']}"


async def subscribe(client: RawClient, **more: Any) -> None:
    await client.send(
        "421" + json.dumps(["subscribe_execution", {"execution_id": "a", "delivery": "at-least-once", **more}])
    )
    assert json.loads((await client.until("431"))[3:])[0]["ok"]


async def acknowledge(client: RawClient, position: str) -> Any:
    return await client.ask("ack", {"execution_id": "a", "position": position})


async def test_what_is_not_acknowledged_comes_again_under_the_same_numbers() -> None:
    with site(**QUICK) as place:
        place.tokens("a", 2)
        async with raw_client(place) as client:
            await subscribe(client)
            first = [await update(client) for _ in range(3)]
            assert [number for number, _ in first] == [1, 2, 3]
            assert [await update(client) for _ in range(3)] == first
            assert (await acknowledge(client, first[1][1]))["outstanding"] == 1
            assert (await update(client))[0] == 3
            assert (await acknowledge(client, first[2][1]))["outstanding"] == 0
            place.tokens("a", 1, start=2)
            assert (await update(client))[0] == 4
            assert place.gateway.statistics().redelivered >= 4


async def test_a_subscription_stays_until_the_end_is_acknowledged() -> None:
    with site(**QUICK) as place:
        place.hub.open("a")
        await place.hub.close("a")
        async with raw_client(place) as client:
            await subscribe(client)
            seen = [await update(client) for _ in range(4)]
            assert [number for number, _ in seen] == [1, 2, 1, 2]
            await client.send("42" + json.dumps(["ack", {"execution_id": "a", "position": seen[-1][1]}]))
            assert (await client.event("subscription_closed")) == {"execution_id": "a", "reason": "ended"}
        async with asyncio.timeout(10):
            while place.hub.statistics().subscriptions:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("subscribed", "position", "code"), [(True, "{epoch}:99", 4001), (False, "{epoch}:1", 4000), (True, "x", 4001)]
)
async def test_what_cannot_be_acknowledged(subscribed: bool, position: str, code: int, open_site: Site) -> None:
    open_site.tokens("a", 1)
    state = await open_site.hub.describe("a")
    assert state is not None
    async with raw_client(open_site) as client:
        if subscribed:
            await subscribe(client)
        answer = await acknowledge(client, position.format(epoch=state.epoch))
        assert answer["error"]["code"] == code
        assert (await client.ask("ping"))["ok"]
