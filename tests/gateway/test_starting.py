"""A module starts with its app, also in a mounted one, and as often as the app starts."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

import httpx2
import pytest
import socketio
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from websockets.asyncio.client import connect

from lg_streaming import StreamHub, StreamingModule, sse_response
from lg_streaming.errors import HubClosedError
from lg_streaming.log.memory import MemoryLog
from lg_streaming.settings import AuthSettings, GatewaySettings, StreamingSettings
from tests.gateway.sse import EventSource
from tests.support.server import Server, free_socket, serve, serve_process

OPEN = StreamingSettings(auth=AuthSettings(enabled=False))


def mounted() -> FastAPI:
    """Return an app for another process: `tests.gateway.test_starting:mounted()`."""
    sub, app, streaming = FastAPI(), FastAPI(), StreamingModule()
    streaming.install(sub)
    app.mount("/api", sub)
    streaming.hub.open("e")
    streaming.hub.publish("e", "note", {"i": 1})
    return app


# ---------------------------------------------------------------- mounted
def under_fastapi(sub: Starlette) -> tuple[Starlette, str]:
    app = FastAPI()
    app.mount("/api", sub)
    return app, "/api"


def under_starlette(sub: Starlette) -> tuple[Starlette, str]:
    return Starlette(routes=[Mount("/deep/api", app=sub)]), "/deep/api"


def under_two(sub: Starlette) -> tuple[Starlette, str]:
    outer, inner = FastAPI(), FastAPI()
    inner.mount("/inner", sub)
    outer.mount("/outer", inner)
    return outer, "/outer/inner"


PARENTS = [under_fastapi, under_starlette, under_two]


@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("make", [FastAPI, Starlette])
async def test_all_transports_work_in_a_mounted_app(
    parent: Callable[[Starlette], tuple[Starlette, str]], make: type[Starlette]
) -> None:
    sub, streaming = make(), StreamingModule()
    streaming.install(sub)
    app, path = parent(sub)
    streaming.hub.open("e")
    streaming.hub.publish("e", "note", {"i": 1})
    await streaming.hub.close("e")
    with serve(app) as server:
        async with httpx2.AsyncClient(timeout=10) as http:
            events = await _read(http, f"{server.url}{path}/executions/e/stream")
            assert events == ["workflow_start", "note", "workflow_complete", "end"]
            page = (await http.get(f"{server.url}{path}/executions/e/updates")).json()
            assert len(page["updates"]) == 3
            assert (await http.get(f"{server.url}{path}/health")).json()["status"] == "ok"
            assert (await http.get(f"{server.url}{path}/lg-streaming.js")).status_code == 200
        async with connect(f"{server.ws_url}{path}/ws") as socket:
            assert json.loads(await socket.recv())["type"] == "connection_status"
            await socket.send(json.dumps({"type": "subscribe_execution", "payload": {"execution_id": "e"}}))
            assert json.loads(await socket.recv())["payload"]["state"] == "completed"
        client = socketio.AsyncClient()
        await client.connect(server.url, socketio_path=f"{path}/socket.io", transports=["websocket"])
        answer = cast("dict[str, Any]", await client.call("subscribe_execution", {"execution_id": "e"}))
        assert answer["ok"]
        await client.disconnect()
    await streaming.aclose()


async def _read(http: httpx2.AsyncClient, url: str, **options: Any) -> list[str]:
    async with EventSource(http, url, **options).open() as events:
        return [event.type async for event in events]


@pytest.mark.parametrize("opens_with", ["stream", "websocket"])
async def test_a_mounted_module_ends_with_the_server(opens_with: str) -> None:
    with serve_process("tests.gateway.test_starting:mounted()") as server:
        if opens_with == "stream":
            async with (
                httpx2.AsyncClient(timeout=10) as http,
                EventSource(http, f"{server.url}/api/executions/e/stream").open() as events,
            ):
                assert (await anext(events)).type == "workflow_start"
                assert (await anext(events)).type == "note"
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                assert [event.type async for event in events] == ["server_restart"]
                took = await stopping
        else:
            async with connect(f"{server.ws_url}/api/ws") as socket:
                assert json.loads(await socket.recv())["type"] == "connection_status"
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                assert json.loads(await socket.recv())["type"] == "server_restart"
                took = await stopping
        assert took < 3  # the server's own patience with open connections is 3 s in these tests
        assert "Traceback" not in server.log


async def test_many_first_requests_start_a_module_once(caplog: pytest.LogCaptureFixture) -> None:
    app, streaming, started = FastAPI(), StreamingModule(), list[int]()
    sub = FastAPI()
    streaming.install(sub)
    app.mount("/api", sub)
    streaming.gateway.on_start(lambda: started.append(1))
    with serve(app) as server:
        async with httpx2.AsyncClient(timeout=10) as http:
            answers = await asyncio.gather(*(http.get(f"{server.url}/api/executions") for _ in range(30)))
        assert {answer.status_code for answer in answers} == {200}
    assert started == [1]
    assert sum("gateway.stopped" in record.getMessage() for record in caplog.records) == 1
    await streaming.aclose()


async def test_two_mounts_have_modules_of_their_own() -> None:
    app, modules = FastAPI(), [StreamingModule(), StreamingModule()]
    for name, streaming in zip("ab", modules, strict=True):
        sub = FastAPI()
        streaming.install(sub)
        app.mount(f"/{name}", sub)
        streaming.hub.open(f"of-{name}")
    with serve(app) as server:
        async with httpx2.AsyncClient(timeout=10) as http:
            for name in "ab":
                found = (await http.get(f"{server.url}/{name}/executions")).json()["executions"]
                assert [each["execution_id"] for each in found] == [f"of-{name}"]
            # Both streams end well when the server stops.
            async with (
                EventSource(http, f"{server.url}/a/executions/of-a/stream").open() as first,
                EventSource(http, f"{server.url}/b/executions/of-b/stream").open() as second,
            ):
                assert [(await anext(each)).type for each in (first, second)] == ["workflow_start"] * 2
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                assert [event.type async for event in first] == ["server_restart"]
                assert [event.type async for event in second] == ["server_restart"]
                await stopping
    for streaming in modules:
        await streaming.aclose()


# ---------------------------------------------------------------- again and again
async def _check(server: Server, path: str, execution_id: str, *, health: bool = True) -> None:
    async with httpx2.AsyncClient(timeout=10) as http:
        url = f"{server.url}{path}".format(execution_id)
        assert await _read(http, url) == ["workflow_start", "note", "workflow_complete", "end"]
        if health:
            root = url.partition("/executions")[0]
            assert (await http.get(f"{root}/health")).json()["status"] == "ok"


async def _write(hub: StreamHub, execution_id: str) -> None:
    hub.open(execution_id)
    hub.publish(execution_id, "note", {"i": 1})
    await hub.close(execution_id)


@pytest.mark.parametrize("when", ["before it starts", "while it runs"])
@pytest.mark.parametrize("is_mounted", [False, True])
async def test_an_app_starts_again(when: str, *, is_mounted: bool) -> None:
    streaming, app = StreamingModule(), FastAPI()
    streaming.install(app)
    path = "/executions/{}/stream"
    if is_mounted:
        app, prefix = under_fastapi(app)
        path = prefix + path
    for number in range(3):
        if when == "before it starts":
            await _write(streaming.hub, f"e{number}")
        with serve(app) as server:
            if when == "while it runs":
                await _write(streaming.hub, f"e{number}")
            await _check(server, path, f"e{number}")
    assert not streaming.hub.executions()  # a start begins without the executions of the one before
    assert streaming.hub.statistics().published == 9
    await streaming.aclose()


async def test_a_stream_alone_starts_again() -> None:
    hub, app = StreamHub(), FastAPI()

    @app.get("/chats/{chat_id}")
    async def watch(chat_id: str) -> Any:
        return sse_response(hub, chat_id)

    for number in range(3):
        await _write(hub, f"e{number}")
        hub.open("open")
        with serve(app) as server:
            await _check(server, "/chats/{}", f"e{number}", health=False)
            # One that is open when the server stops ends well each time.
            async with (
                httpx2.AsyncClient(timeout=10) as http,
                EventSource(http, f"{server.url}/chats/open").open() as events,
            ):
                assert (await anext(events)).type == "workflow_start"
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                assert [event.type async for event in events] == ["server_restart"]
                await stopping
    assert len(hub.executions()) == 4  # the hub is the program's own, and stays as it is
    await hub.aclose()


@pytest.mark.parametrize("with_lifespan", [True, False])
def test_a_test_client_starts_an_app_again(*, with_lifespan: bool) -> None:
    streaming, app = StreamingModule(OPEN), FastAPI()
    streaming.install(app)

    def check(client: TestClient, name: str) -> None:
        streaming.hub.open(name)
        assert client.get(f"/executions/{name}").status_code == 200
        assert client.get("/health").json()["status"] == "ok"
        with client.websocket_connect("/ws") as socket:
            assert socket.receive_json()["type"] == "connection_status"

    for number in range(3):
        if with_lifespan:
            with TestClient(app) as client:
                check(client, f"e{number}")
        else:
            check(TestClient(app), f"e{number}")
    asyncio.run(streaming.aclose())


async def test_two_servers_one_after_the_other_on_one_event_loop() -> None:
    streaming, sub = StreamingModule(), FastAPI()
    streaming.install(sub)
    app, path = under_fastapi(sub)
    for number in range(3):
        await _write(streaming.hub, f"e{number}")
        sock = free_socket()
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=3))
        serving = asyncio.create_task(server._serve(sockets=[sock]))  # pyright: ignore[reportPrivateUsage]
        while not server.started:
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{sock.getsockname()[1]}{path}/executions/e{number}/stream"
        async with httpx2.AsyncClient(timeout=10) as http:
            assert await _read(http, url) == ["workflow_start", "note", "workflow_complete", "end"]
        server.should_exit = True
        await serving
        sock.close()
    await streaming.aclose()


async def test_activation_and_a_log_of_ones_own_live_over_a_start() -> None:
    streaming, app = StreamingModule(log=MemoryLog()), FastAPI()
    streaming.install(app)
    with streaming.activate():
        for _ in range(2):
            with serve(app):
                assert StreamingModule.active() is streaming
                async with streaming.execution("e"):
                    streaming.hub.publish("e", "note", 1)
                assert [update.type async for update in streaming.hub.subscribe("e")][1] == "note"
        assert StreamingModule.active() is streaming
    assert StreamingModule.active() is None
    await streaming.aclose()


async def test_a_run_of_before_does_not_reach_into_the_next_start() -> None:
    streaming, app = StreamingModule(), FastAPI()
    streaming.install(app)
    block = streaming.execution("e")
    with serve(app):
        await block.__aenter__()
        emitter = block.emitter
        emitter.event("note", 1)
    with serve(app):
        assert streaming.hub.statistics().running == 0
        await block.__aexit__(None, None, None)
        assert streaming.hub.statistics().running == 0
        assert not streaming.hub.executions()
    await streaming.aclose()


async def test_a_module_that_was_closed_on_purpose_stays_closed_until_its_app_starts() -> None:
    streaming, sub = StreamingModule(), FastAPI()
    streaming.install(sub)
    app, path = under_fastapi(sub)
    await streaming.aclose()
    with serve(app) as server:
        async with httpx2.AsyncClient(timeout=10) as http:
            answer = await http.get(f"{server.url}{path}/health")
            assert (answer.status_code, answer.json()["status"]) == (503, "closed")
        with pytest.raises(HubClosedError):
            streaming.hub.open("e")
    await streaming.aclose()
    with serve(sub) as server:
        await _write(streaming.hub, "e")
        await _check(server, "/executions/{}/stream", "e")
    await streaming.aclose()


# ---------------------------------------------------------------- several modules on one app
async def test_modules_with_prefixes_of_their_own_share_an_app() -> None:
    app = FastAPI()
    modules = {prefix: StreamingModule({"gateway": {"prefix": prefix}}) for prefix in ("/a", "/b", "/a/c")}
    for prefix, streaming in modules.items():
        streaming.install(app)
        streaming.hub.open(f"of{prefix}")
    with serve(app) as server:
        async with httpx2.AsyncClient(timeout=10) as http:
            for prefix in modules:
                found = (await http.get(f"{server.url}{prefix}/executions")).json()["executions"]
                assert [each["execution_id"] for each in found] == [f"of{prefix}"]
        for prefix in modules:
            client = socketio.AsyncClient()
            await client.connect(server.url, socketio_path=f"{prefix}/socket.io", transports=["websocket"])
            answer = cast("dict[str, Any]", await client.call("subscribe_execution", {"execution_id": f"of{prefix}"}))
            assert answer["state"] == "running"
            await client.disconnect()
    assert all(streaming.hub.health().executions == 0 for streaming in modules.values())
    for streaming in modules.values():
        await streaming.aclose()


def test_settings_may_be_a_mapping() -> None:
    streaming = StreamingModule({"gateway": {"prefix": "/x"}, "limits": {"connections": 5}})
    assert (streaming.settings.gateway.prefix, streaming.settings.limits.connections) == ("/x", 5)
    assert StreamingModule({"gateway": GatewaySettings(prefix="/y")}).settings.gateway.prefix == "/y"
    assert StreamHub({"debug": True}).settings.debug
