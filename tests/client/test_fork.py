"""Clients that are open when the process forks: they connect anew in the child, and go on in the parent."""

from __future__ import annotations

import os

import pytest

from tests.client.conftest import CLIENTS, Place
from tests.support.forks import run_forking

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.mark.parametrize("transport", CLIENTS)
async def test_a_script_that_forks_in_the_middle_of_a_loop(place: Place, transport: str) -> None:
    place.tokens("ended", 3)
    await place.hub.close("ended")
    seen = run_forking(
        """
from lg_streaming.client import SyncClient

heard = []

def child():
    try:
        list(updates)  # what has come already is there
    except ForkedError as error:
        refused = str(error)
    again = types(client.subscribe("ended"))
    def grandchild():
        return {"types": types(client.subscribe("ended"))}
    result = {"refused": refused, "again": again, "grandchild": in_child(grandchild)["types"], "heard": len(heard)}
    subscription.close()
    client.close()
    return result

with SyncClient(url, transport=transport) as client:
    client.on("connected", heard.append)
    subscription = client.subscribe("ended")
    updates = iter(subscription)
    first = next(updates).type
    child = in_child(child)
    rest = [update.type for update in updates]
    afterwards = types(client.subscribe("ended"))
    listed = [each["execution_id"] for each in client.executions()["executions"]]
print(json.dumps({**child, "parent": [first, *rest], "afterwards": afterwards, "listed": listed}))
""",
        url=place.url,
        transport=transport,
    )
    all_types = ["workflow_start", "token", "token", "token", "workflow_complete"]
    assert "subscribe again in this process" in seen["refused"]
    assert seen["again"] == seen["grandchild"] == seen["parent"] == seen["afterwards"] == all_types
    assert seen["heard"] >= 2  # listeners are kept
    assert seen["listed"] == ["ended"]


@pytest.mark.parametrize("name", ["SSEClient", "SocketIOClient"])
async def test_an_async_client_in_a_child(place: Place, name: str) -> None:
    place.tokens("ended", 3)
    await place.hub.close("ended")
    seen = run_forking(
        """
import lg_streaming.client

client = getattr(lg_streaming.client, name)(url)

async def read():
    async with asyncio.timeout(PATIENCE):
        got = [update.type async for update in client.subscribe("ended")]
        await client.executions()
        return got

async def read_and_close():
    try:
        return {"types": await read(), "subscriptions": client.statistics().subscriptions}
    finally:
        await client.aclose()

async def main():
    first = await read()
    waiting = asyncio.create_task(anext(aiter(client.subscribe("waits"))))
    while client.statistics().subscriptions == 0 or not client.connected:
        await asyncio.sleep(0.01)
    # In a thread, so that no event loop runs where the child goes on.
    child = await asyncio.to_thread(in_child, lambda: asyncio.run(read_and_close()))
    again = await read()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await client.aclose()
    return {"child": child, "parent": [first, again]}

print(json.dumps(asyncio.run(main())))
""",
        url=place.url,
        name=name,
    )
    all_types = ["workflow_start", "token", "token", "token", "workflow_complete"]
    assert seen["child"] == {"types": all_types, "subscriptions": 0}
    assert seen["parent"] == [all_types, all_types]
