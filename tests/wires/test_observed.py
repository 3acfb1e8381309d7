"""Streams of every wire in statistics, metrics, lists of clients and the log, under the wire's name."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest

from lg_streaming.types import WireName
from tests.wires.all_wires import CASES, WIRES, AllWires, Case, all_wires, bearer

JSON = {"Content-Type": "application/json"}


def stream_of(wire: WireName) -> Case:
    return next(case for case in CASES if case.wire == wire and case.kind == "stream")


@asynccontextmanager
async def reading(
    place: AllWires, case: Case, execution_id: str, headers: dict[str, str] | None = None
) -> AsyncGenerator[httpx2.Response]:
    """A reader of a stream that has got its first bytes."""
    content = case.content(execution_id)
    sent = {**bearer(), **(JSON if content is not None else {}), **(headers or {})}
    async with (
        httpx2.AsyncClient(base_url=place.url, timeout=10) as http,
        http.stream(case.method, case.at(execution_id), headers=sent, content=content) as answer,
    ):
        yield answer


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_counts_for_its_wire(wire: WireName, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lg_streaming.gateway")
    case = stream_of(wire)
    with all_wires(auth={"enabled": False}) as place:
        place.open_run("seen")
        async with reading(place, case, "seen") as answer:
            assert answer.status_code == 200
            (client,) = place.gateway.clients
            assert (client.transport, client.executions) == (wire, ("seen",))
            now = place.gateway.statistics().transports[wire]
            assert (now.connections, now.opened) == (1, 1)
            await place.module.hub.close("seen")
            await until(lambda: place.gateway.statistics().transports[wire].updates)
            async with httpx2.AsyncClient() as http:
                text = (await http.get(f"{place.url}/metrics")).text
            assert re.search(
                rf'^lg_streaming_connections_opened_total{{.*transport="{wire}".*}} 1.0$', text, re.MULTILINE
            )
        await until(lambda: place.gateway.connections == 0)
        after = place.gateway.statistics().transports
        assert (after[wire].connections, sum(after[wire].closed.values())) == (0, 1)
        assert after[wire].updates > 0
        assert after[wire].bytes > 0 or wire == "langgraph"  # whose readers see no such token
        assert sum(each.opened for each in after.values()) == 1
    lines = [record for record in caplog.records if getattr(record, "transport", None) == wire]
    assert [getattr(record, "event", "") for record in lines] == [
        "gateway.client.connected",
        "gateway.client.disconnected",
    ]


@pytest.mark.parametrize("wire", WIRES)
async def test_refused_streams_are_counted(wire: WireName) -> None:
    case = stream_of(wire)
    with all_wires() as place:
        async with httpx2.AsyncClient(base_url=place.url) as http:
            content = case.content("any")
            answer = await http.request(case.method, case.at("any"), content=content, headers=JSON)
            assert answer.status_code == 401
        counted = place.gateway.statistics()
        assert (counted.refused["4010"], counted.login_failures) == (1, 1)
