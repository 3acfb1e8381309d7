"""A reader that comes back names its last event id: in the header, or in the address as polyfills of EventSource do."""

from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from lg_streaming import StreamHub, sse_response
from tests.gateway.site import Site, site
from tests.support.server import serve

NAMES = [
    "lastEventId",
    "Last-Event-ID",
    "last-event-id",
    "last_event_id",
    "LASTEVENTID",
    "Last_Event_Id",
    "lasteventid",
]


@pytest.fixture
async def place() -> Any:
    with site() as running:
        await _fill(running.hub)
        yield running


async def _fill(hub: StreamHub) -> None:
    hub.open("e")
    for number in range(6):
        hub.publish("e", "note", {"i": number})
    await hub.close("e")


@pytest.fixture
async def own(place: Site) -> Any:
    """Return a route of the application, which begins at the second note unless its reader names a position."""
    app = FastAPI()
    hub = place.hub

    @app.get("/executions/{name}/stream")
    async def read(name: str) -> Any:
        return sse_response(hub, name, after=await _position(place, 2))

    @app.get("/all/{name}")
    async def read_all(name: str) -> Any:
        return sse_response(hub, name)

    with serve(app) as server:
        yield server


async def _position(place: Site, seq: int) -> str:
    state = await place.hub.describe("e")
    assert state is not None
    return f"{state.epoch}:{seq}"


async def _notes(url: str, headers: dict[str, str] | None = None, /, **params: str) -> list[int]:
    async with httpx2.AsyncClient(timeout=10) as http:
        answer = await http.get(url, params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    return [number for number in range(6) if f'"i":{number}' in answer.text]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("route", ["stream", "updates"])
async def test_it_counts_in_the_address_of_streams_and_pages(place: Site, name: str, route: str) -> None:
    position = await _position(place, 4)
    assert await _notes(f"{place.url}/executions/e/{route}", None, **{name: position}) == [3, 4, 5]
    assert await _notes(f"{place.url}/executions/e/{route}", None, **{name: ""}) == list(range(6))


@pytest.mark.parametrize("name", NAMES)
async def test_it_counts_on_a_route_of_ones_own(place: Site, own: Any, name: str) -> None:
    position = await _position(place, 4)
    for path in ("/executions/e/stream", "/all/e"):
        assert await _notes(own.url + path, None, **{name: position}) == [3, 4, 5]


async def test_the_header_wins_and_then_the_address_and_then_after(place: Site, own: Any) -> None:
    second, fourth, sixth = [await _position(place, seq) for seq in (2, 4, 6)]
    for url in (f"{place.url}/executions/e/stream", f"{place.url}/executions/e/updates"):
        assert await _notes(url, after=second) == [1, 2, 3, 4, 5]
        # A polyfill adds its id to the address that the page began with.
        assert await _notes(url, after=second, lastEventId=fourth) == [3, 4, 5]
        assert await _notes(url, {"Last-Event-ID": sixth}, after=second, lastEventId=fourth) == [5]
    assert await _notes(f"{own.url}/executions/e/stream") == [1, 2, 3, 4, 5]
    assert await _notes(f"{own.url}/executions/e/stream", {"Last-Event-ID": sixth}, lastEventId=fourth) == [5]


@pytest.mark.parametrize("value", ["undefined", "7", ":", "epoch:", ":1", "x" * 5_000])
async def test_what_is_no_position_is_refused(place: Site, own: Any, value: str) -> None:
    async with httpx2.AsyncClient(timeout=10) as http:
        for url in (f"{place.url}/executions/e/stream", f"{place.url}/executions/e/updates", f"{own.url}/all/e"):
            answer = await http.get(url, params={"lastEventId": value})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, 4001)


async def test_one_that_has_it_all_is_told_so(place: Site) -> None:
    state = await place.hub.describe("e")
    assert state is not None
    async with httpx2.AsyncClient(timeout=10) as http:
        url = f"{place.url}/executions/e/stream?last_event_id={state.epoch}:{state.head}"
        assert (await http.get(url)).status_code == 204


async def test_it_is_no_option_where_there_is_no_place_to_go_on(place: Site) -> None:
    async with httpx2.AsyncClient(timeout=10) as http:
        assert (await http.get(f"{place.url}/executions?lastEventId=1:1")).status_code == 400
