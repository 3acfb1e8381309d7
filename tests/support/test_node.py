"""The official socket.io-client executes commands, and reports its events."""

from collections.abc import Generator

import pytest

from tests.support.apps import echo
from tests.support.node import NodeError, node_client, node_process
from tests.support.server import Server, serve

ALICE = {"name": "alice"}


@pytest.fixture
def server() -> Generator[Server]:
    with serve(echo()) as running:
        yield running


async def test_an_emit_is_acknowledged_and_events_arrive(server: Server) -> None:
    async with node_client(server.url, auth=ALICE) as client:
        assert await client.emit("say", {"a": [1]}) == {"ok": True, "data": {"a": [1]}}
        assert await client.event("heard") == {"a": [1]}
        await client.emit_without_ack("say", 2)
        assert await client.event() == 2
        assert client.kept() == []


async def test_lines_that_were_not_asked_for_are_kept_in_order(server: Server) -> None:
    async with node_client(server.url, auth=ALICE) as client:
        for number in (1, 2, 3):
            await client.emit("say", number)
        lines = await client.events("heard", until=lambda line: line["payload"] == 3)
        assert [line["payload"] for line in lines] == [1, 2, 3]


async def test_a_refusal_carries_its_data(server: Server) -> None:
    async with node_client(server.url, wait=False) as client:
        refused = await client.of_type("connect_error")
        assert refused["data"] == {"code": 4010}
        await client.send("reconnect", auth=ALICE)
        assert (await client.next())["type"] == "connect"
    with pytest.raises(NodeError, match="refused"):
        async with node_client(server.url):
            pytest.fail("the block must not run")


async def test_a_lost_network_and_a_leave_are_told_apart(server: Server) -> None:
    async with node_client(server.url, auth=ALICE) as client:
        await client.send("drop")
        assert (await client.of_type("disconnect"))["reason"] == "transport close"
        await client.send("reconnect")
        assert (await client.next())["type"] == "connect"
        await client.send("disconnect")
        assert (await client.of_type("disconnect"))["reason"] == "io client disconnect"


@pytest.mark.parametrize(("level", "frame"), [("engine", '2["say",7]'), ("websocket", '42["say",7]')])
async def test_raw_frames_reach_the_server(level: str, frame: str, server: Server) -> None:
    async with node_client(server.url, auth=ALICE) as client:
        await client.send("raw", frame=frame, level=level)
        assert await client.event("heard") == 7


async def test_a_paused_reader_gets_everything_later(server: Server) -> None:
    async with node_client(server.url, auth=ALICE) as client:
        await client.send("pause")
        await client.emit_without_ack("say", 1)
        with pytest.raises(NodeError, match="nothing that fits"):
            await client.event("heard", timeout=0.2)
        await client.send("resume")
        assert await client.event("heard") == 1


async def test_mistakes_and_deaths_are_said() -> None:
    async with node_process() as client:
        await client.send("dance")
        with pytest.raises(NodeError, match="unknown command dance"):
            await client.next()
        await client.send("exit")
        with pytest.raises(NodeError, match="ended with 0"):
            await client.next()
