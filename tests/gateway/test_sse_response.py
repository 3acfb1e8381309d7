"""An event stream as the answer of the user's own route, and what `initial_data` promises."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, HTTPException, Response

from lg_streaming import StreamHub, StreamingSettings, sse_response
from lg_streaming.gateway.hooks.shutdown_hooks import ShutdownHooks, shutdown_hooks
from tests.gateway.site import make_app, site
from tests.gateway.sse import Event, EventSource
from tests.support.server import Server, serve


@pytest.fixture
async def http() -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


async def read(source: EventSource) -> list[Event]:
    async with source.open() as events:
        return [event async for event in events]


@contextmanager
def own_route(hub: StreamHub, **options: Any) -> Generator[Server]:
    """An app without a gateway."""
    app = FastAPI()

    @app.get("/chats/{chat_id}")
    async def watch(chat_id: str, user: str = "") -> Response:
        if user == "mallory":
            raise HTTPException(403)
        return sse_response(hub, chat_id, **options)

    with serve(app) as server:
        yield server


@pytest.fixture
async def hub() -> AsyncGenerator[StreamHub]:
    hub = StreamHub(StreamingSettings())
    yield hub
    await hub.aclose()


@pytest.mark.row("PYEV-10", "FLOW-39", "PYEV-13", "PYEV-D9")
async def test_one_line_makes_a_resumable_stream(hub: StreamHub, http: httpx2.AsyncClient) -> None:
    hub.publish("chat-1", "token", {"content": "Hel"}, scope=hub.emitter("chat-1", category="chat").scope)
    hub.publish("chat-1", "token", {"content": "lo"})
    await hub.close("chat-1")
    with own_route(hub, headers={"X-Own": "yes"}) as server:
        source = EventSource(http, f"{server.url}/chats/chat-1")
        events = await read(source)
        assert [event.type for event in events] == ["workflow_start", "token", "token", "workflow_complete", "end"]
        back = EventSource(http, f"{server.url}/chats/chat-1", last_event_id=events[1].last_event_id)
        assert [event.type for event in await read(back)] == ["token", "workflow_complete", "end"]
        await read(source)
        assert source.status == 204
        answer = await http.get(f"{server.url}/chats/chat-1")
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["x-own"] == "yes"
        assert (await http.get(f"{server.url}/chats/chat-1?user=mallory")).status_code == 403
        wrong = await http.get(f"{server.url}/chats/chat-1", headers={"Last-Event-ID": "nonsense"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, 4001)
    assert hub.statistics().subscriptions == 0


@pytest.mark.row("PYEV-11", "PYEV-D1")
async def test_nothing_is_lost_between_the_snapshot_and_the_stream(hub: StreamHub, http: httpx2.AsyncClient) -> None:
    hub.open("chat-1")
    seen: list[str] = []

    async def initial(execution_id: str) -> dict[str, Any]:
        seen.append(execution_id)
        hub.publish(execution_id, "custom", {"said": "while the snapshot was made"})
        return {"items": [1, 2]}

    with own_route(hub, after="latest", initial_data=initial) as server:
        source = EventSource(http, f"{server.url}/chats/chat-1")
        async with source.open() as events:
            assert (await anext(events)).json == {"items": [1, 2]}
            assert (await anext(events)).json["data"] == {"said": "while the snapshot was made"}
            await hub.close("chat-1")
            assert [event.type async for event in events] == ["workflow_complete", "end"]
    assert seen == ["chat-1"]


async def test_initial_data_that_fails_is_an_error_before_the_stream(
    hub: StreamHub, http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    def initial(_: str) -> dict[str, Any]:
        raise RuntimeError("no database")

    with own_route(hub, initial_data=initial) as server:
        answer = await http.get(f"{server.url}/chats/chat-1")
        assert answer.status_code == 500
        assert "no database" not in answer.text
    assert "initial_data failed" in caplog.text
    caplog.clear()
    assert hub.statistics().subscriptions == 0


@pytest.mark.row("PYEV-12", "PYEV-D2")
async def test_a_bound_on_the_time_ends_the_stream_well(hub: StreamHub, http: httpx2.AsyncClient) -> None:
    hub.open("chat-1")
    with own_route(hub, max_duration=0.3, heartbeat_interval=0.1) as server:
        source = EventSource(http, f"{server.url}/chats/chat-1")
        events = await read(source)
        assert [event.type for event in events] == ["workflow_start", "timeout"]
        assert source.retry == events[-1].json["retry_ms"]
        assert "keep-alive" in source.comments
        hub.publish("chat-1", "token", {"content": "x"})
        await hub.close("chat-1")
        assert [event.type for event in await read(source)] == ["token", "workflow_complete", "end"]


@pytest.mark.row("FLOW-05", "PYEV-14", "CFLOW-07")
async def test_frames_without_ids_without_names_and_in_batches(hub: StreamHub, http: httpx2.AsyncClient) -> None:
    hub.publish("chat-1", "custom", {"text": "two\nlines"})
    await hub.close("chat-1")
    with own_route(hub, ids=False, named=False) as server:
        source = EventSource(http, f"{server.url}/chats/chat-1")
        events = await read(source)
        assert [(event.type, event.last_event_id) for event in events] == [("message", "")] * 3 + [("end", "")]
        assert events[1].json["data"] == {"text": "two\nlines"}


async def test_batches_are_lists(hub: StreamHub, http: httpx2.AsyncClient) -> None:
    hub.publish("chat-1", "custom", {"text": "a"})
    await hub.close("chat-1")
    with own_route(hub, batch=True, events=["event"]) as server:
        first, last = await read(EventSource(http, f"{server.url}/chats/chat-1"))
        assert (first.type, last.type) == ("updates", "end")
        assert [update["type"] for update in first.json] == ["custom"]


async def test_streams_of_own_routes_end_with_the_server(hub: StreamHub, http: httpx2.AsyncClient) -> None:
    hub.open("chat-1")
    with own_route(hub) as server:
        async with EventSource(http, f"{server.url}/chats/chat-1").open() as events:
            assert (await anext(events)).type == "workflow_start"
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            assert [event.type async for event in events] == ["server_restart"]
            assert await stopping < 2


async def test_an_own_route_beside_a_gateway_shares_its_limits(http: httpx2.AsyncClient) -> None:
    with site(limits={"connections": 1}) as place:
        place.hub.open("a")
        app = make_app(place.hub, place.gateway)

        @app.get("/own")
        async def own() -> Response:
            return sse_response(place.hub, "a")

        with serve(app, lifespan="off") as server:
            async with EventSource(http, f"{place.url}/executions/a/stream").open():
                assert (await http.get(f"{server.url}/own")).status_code == 503


async def test_a_request_after_the_end_of_its_server_does_not_start_the_gateway_again(hub: StreamHub) -> None:
    """Nothing but the process keeps the gateway of `sse_response`: a collection must not make it forget its end."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def ask() -> None:
        sent.clear()
        await sse_response(hub, "chat-1")({"type": "http", "http_version": "1.1", "headers": []}, receive, send)

    hooks = ShutdownHooks()
    token = shutdown_hooks.set(hooks)
    try:
        hub.open("chat-1")
        await hub.close("chat-1")
        await ask()
        assert sent[0]["status"] == 200
        await hooks.run()
        gc.collect()
        await ask()
        assert sent[0]["status"] == 503
    finally:
        shutdown_hooks.reset(token)
