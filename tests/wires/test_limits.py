"""The limits of connections, starts, requests and logins, for every wire."""

from __future__ import annotations

import httpx2
import pytest

from lg_streaming.types import WireName
from tests.wires.all_wires import CASES, WIRES, AllWires, Case, all_wires, bearer
from tests.wires.test_observed import JSON, reading, stream_of, until


def first(wire: WireName, *kinds: str) -> Case:
    return next(case for case in CASES if case.wire == wire and case.kind in kinds)


async def ask(
    http: httpx2.AsyncClient, case: Case, execution_id: str, headers: dict[str, str] | None = None
) -> httpx2.Response:
    content = case.content(execution_id)
    sent = {**(bearer() if headers is None else headers), **(JSON if content is not None else {})}
    async with http.stream(case.method, case.at(execution_id), headers=sent, content=content) as answer:
        if answer.status_code != 200:
            await answer.aread()
        return answer


def client(place: AllWires) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=place.url, timeout=10)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("limit", ["connections", "connections_per_subject", "connections_per_address"])
async def test_open_streams_are_connections(wire: WireName, limit: str) -> None:
    with all_wires(limits={limit: 1}) as place:
        place.open_run("one")
        async with client(place) as http:
            async with reading(place, stream_of(wire), "one") as answer:
                assert answer.status_code == 200
                refused = await ask(http, stream_of(wire), "one")
                assert refused.status_code in {429, 503}, refused.text
                assert refused.text
            await until(lambda: not place.gateway.connections)
            assert (await ask(http, stream_of(wire), "one")).status_code == 200
            await until(lambda: not place.gateway.connections)


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire != "durable-streams"])
async def test_starts_have_a_rate(wire: WireName) -> None:
    case = first(wire, "start") if wire != "langgraph" else next(each for each in CASES if each.path == "/runs/stream")
    with all_wires(limits={"starts_per_subject": "1/minute"}) as place:
        async with client(place) as http:
            assert (await ask(http, case, "one")).status_code == 200
            refused = await ask(http, case, "two")
            assert refused.status_code == 429, refused.text
            assert int(refused.headers["retry-after"]) > 0
        assert len(place.module.hub.executions()) == 1


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire != "ai-sdk"])
async def test_requests_have_a_rate(wire: WireName) -> None:
    """Requests of the AI SDK open streams, which count as connections."""
    with all_wires(limits={"messages_per_second": 0.01, "message_burst": 2}) as place:
        place.open_run("one")
        async with client(place) as http:
            case = first(wire, "read", "list")
            statuses = [(await ask(http, case, "one")).status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429]


@pytest.mark.parametrize("wire", WIRES)
async def test_new_streams_have_a_rate(wire: WireName) -> None:
    with all_wires(limits={"connects_per_address": "2/minute"}) as place:
        place.open_run("one")
        async with client(place) as http:
            statuses = [(await ask(http, stream_of(wire), "one")).status_code for _ in range(3)]
        assert statuses[0] == 200
        assert statuses[-1] == 429


@pytest.mark.parametrize("wire", WIRES)
async def test_failed_logins_have_a_rate(wire: WireName) -> None:
    with all_wires(limits={"failed_logins_per_address": "2/minute"}) as place:
        place.open_run("one")
        async with client(place) as http:
            for kind in ("stream", "read", "list"):
                for case in [each for each in CASES if each.wire == wire and each.kind == kind][:1]:
                    wrong = [(await ask(http, case, "one", {})).status_code for _ in range(3)]
                    assert set(wrong) <= {401, 429}
                    assert (await ask(http, case, "one")).status_code == 429
