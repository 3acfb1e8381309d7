"""The gateway as a whole: its parts, its switches, its figures, and its calls of the application."""

import asyncio
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from lg_streaming import StreamingModule, StreamingSettings, stream_token
from lg_streaming.errors import StreamingConfigError
from lg_streaming.observability.events import GatewayEvent
from lg_streaming.settings import GatewaySettings, LimitSettings
from lg_streaming.views import EventStreamProcessor, TokenStreamingService
from tests.gateway.site import Site, make_app, raw_client, site
from tests.gateway.sse import EventSource
from tests.support.server import serve


# ---------------------------------------------------------------- what there is
@pytest.mark.row("HIVE-01", "CFLOW-02", "HIVE-14", "AOS-02")
async def test_a_module_has_all_parts_and_installs_them_once() -> None:
    streaming = StreamingModule(StreamingSettings())
    assert isinstance(streaming.tokens, TokenStreamingService)
    assert isinstance(streaming.events, EventStreamProcessor)
    with pytest.raises(StreamingConfigError):
        _ = streaming.gateway
    app = FastAPI()
    streaming.install(app)
    with pytest.raises(StreamingConfigError, match="installed already"):
        streaming.install(app)
    with serve(app) as server:
        async with httpx2.AsyncClient() as http:
            assert (await http.get(f"{server.url}/health")).json()["status"] == "ok"
    assert streaming.gateway.connections == 0
    await streaming.gateway.shutdown()  # stopped already: nothing happens


@pytest.mark.row("HIVE-02", "HIVE-04")
@pytest.mark.parametrize("transports", [(), ("socketio",), ("websocket",), ("sse",), ("rest",)])
async def test_only_what_is_switched_on_is_served(transports: tuple[str, ...]) -> None:
    with site(gateway={"transports": transports}) as place:
        place.hub.open("a")
        served: set[str] = set()
        async with httpx2.AsyncClient() as http:
            assert (await http.get(f"{place.url}/health")).status_code == 200
            if (await http.get(f"{place.url}/executions/a")).status_code == 200:
                served.add("rest")
            async with http.stream("GET", f"{place.url}/executions/a/stream") as stream:
                if stream.status_code == 200:
                    served.add("sse")
        for name, path in (("websocket", "/ws"), ("socketio", "/socket.io/?EIO=4&transport=websocket")):
            try:
                async with connect(place.server.ws_url + path):
                    served.add(name)
            except InvalidStatus as refused:
                assert refused.response.status_code in {403, 404}  # noqa: PT017 (some are refused, some are not)
        assert served == set(transports)


@pytest.mark.row("HIVE-03")
def test_decorators_inherit_the_default_buffer() -> None:
    assert StreamingSettings().token_defaults.buffer_size == 50
    settings = StreamingSettings.model_validate({"token_defaults": {"buffer_size": 7}})
    assert settings.token_defaults.buffer_size == 7

    @stream_token
    async def write(_: dict[str, Any]) -> dict[str, Any]:
        return {}

    assert callable(write)


@pytest.mark.row("CFLOW-01", "HIVE-D29", "HIVE-11")
def test_the_defaults_are_in_one_place() -> None:
    gateway, limits = GatewaySettings(), LimitSettings()
    assert (gateway.heartbeat_interval, gateway.ping_interval, gateway.ping_timeout) == (15.0, 25.0, 10.0)
    assert (gateway.namespace, gateway.prefix, gateway.cors_origins) == ("/", "", ())
    assert (gateway.compression.http, gateway.compression.websocket, gateway.compression.level) == (True, False, 6)
    assert (limits.connections, limits.connections_per_subject, limits.connections_per_address) == (10_000, 20, 100)
    assert (limits.backlog_bytes, limits.backlog_frames, limits.inbound_bytes) == (1_048_576, 1_024, 65_536)


# ---------------------------------------------------------------- life signs
@pytest.mark.row("FLOW-03")
async def test_heartbeats_can_be_switched_off() -> None:
    with site(gateway={"heartbeat_interval": None}) as place:
        place.hub.open("a")
        async with raw_client(place, login=False) as client, httpx2.AsyncClient(timeout=10) as http:
            await client.send("40")
            assert (await client.event("connection_status"))["heartbeat_interval_s"] is None
            source = EventSource(http, f"{place.url}/executions/a/stream")
            async with source.open() as events:
                await anext(events)
                await place.hub.close("a")
                assert [event.type async for event in events] == ["workflow_complete", "end"]
            assert source.comments == []


@pytest.mark.row("HIVE-09", "HIVE-66", "HIVE-D21")
async def test_who_answers_no_ping_is_gone_however_much_is_sent_to_it() -> None:
    with site(gateway={"ping_interval": 0.1, "ping_timeout": 0.2}) as place:
        place.hub.open("busy")

        async def publish() -> None:
            while True:
                place.tokens("busy", 1)
                await asyncio.sleep(0.02)

        publishing = asyncio.create_task(publish())
        async with raw_client(place) as silent:
            assert (await silent.ask("subscribe_execution", {"execution_id": "busy"}))["ok"]
            assert (await silent.ask("join_room", {"room_id": "lobby"}))["clients"] == 1
            code, before = await silent.closed()
        publishing.cancel()
        assert code == 4401
        assert any('"token"' in text for text in before)
        assert place.gateway.connections == 0
        assert place.gateway.statistics().rooms_joined == 0


@pytest.mark.row("FLOW-06", "FLOW-D5")
async def test_a_stream_says_when_to_come_back_and_differently_to_each(open_site: Site) -> None:
    open_site.hub.open("a")
    retries: set[int] = set()
    async with httpx2.AsyncClient(timeout=10) as http:
        for _ in range(8):
            source = EventSource(http, f"{open_site.url}/executions/a/stream")
            async with source.open() as events:
                await anext(events)
            assert source.retry is not None
            assert 500 <= source.retry <= 3_000
            retries.add(source.retry)
    assert len(retries) > 1


@pytest.mark.row("FLOW-44", "CFLOW-02", "FLOW-16")
async def test_a_stream_that_is_over_is_over_once() -> None:
    with site() as place:
        place.hub.open("a")
        async with httpx2.AsyncClient(timeout=10) as http:
            async with EventSource(http, f"{place.url}/executions/a/stream").open() as events:
                await anext(events)
                assert [client.transport for client in place.gateway.clients] == ["sse"]
            async with asyncio.timeout(10):
                while place.gateway.connections:
                    await asyncio.sleep(0.01)
            place.tokens("a", 100)
        assert place.gateway.clients == []
        assert place.gateway.statistics().transports["sse"].closed["none"] == 1


# ---------------------------------------------------------------- limits
@pytest.mark.row("HIVE-07", "HIVE-D20")
async def test_an_address_may_connect_only_so_often_and_a_connection_ask_only_so_much() -> None:
    with site(limits={"connects_per_address": "3/minute", "message_burst": 3, "messages_per_second": 1}) as place:
        for _ in range(2):
            async with raw_client(place) as client:
                assert (await client.ask("ping"))["ok"]
        async with raw_client(place) as client:
            answers = [await client.ask("ping") for _ in range(4)]
            assert [answer["ok"] for answer in answers] == [True, True, True, False]
            assert answers[-1]["error"]["code"] == 4293
            assert answers[-1]["error"]["retry_after_ms"] > 0
        async with raw_client(place, login=False) as client:
            await client.send("40")
            refused = await client.until("44")
            assert '"code":4292' in refused
            assert '"retry_after_ms":60000' in refused


@pytest.mark.row("FLOW-09", "FLOW-D5")
async def test_an_execution_over_its_rate_loses_only_what_may_be_lost() -> None:
    with site(limits={"updates_per_second": 5}) as place:
        place.hub.open("a")
        for index in range(50):
            place.hub.publish("a", "note", {"n": index}, delivery="at-most-once")
        place.hub.publish("a", "node_start", {"node_id": "write"})
        await place.hub.close("a")
        async with (
            httpx2.AsyncClient(timeout=10) as http,
            EventSource(http, f"{place.url}/executions/a/stream").open() as events,
        ):
            types = [event.type async for event in events]
        assert 1 <= types.count("note") < 50
        assert types[-3:] == ["node_start", "workflow_complete", "end"]
        assert place.hub.statistics().dropped_over_rate == 50 - types.count("note")


@pytest.mark.row("HIVE-05", "FLOW-07", "CFLOW-D6", "FLOW-D5", "HIVE-D22")
async def test_origins_on_every_transport() -> None:
    listed, other = "https://app.example.com", "https://evil.example.com"
    with site(gateway={"cors_origins": (listed, "https://second.example.com")}) as place:
        place.hub.open("a")
        await place.hub.close("a")
        async with httpx2.AsyncClient(timeout=10) as http:
            for path in ("/executions/a/stream", "/executions/a", "/executions/a/updates"):
                allowed = await http.get(place.url + path, headers={"Origin": listed})
                assert allowed.headers["access-control-allow-origin"] == listed
                assert "Origin" in allowed.headers["vary"]
                refused = await http.get(place.url + path, headers={"Origin": other})
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, 4031)
                assert "access-control-allow-origin" not in refused.headers
        async with connect(f"{place.server.ws_url}/ws", origin=other) as socket:  # pyright: ignore[reportArgumentType]
            assert '"code":4031' in str(await socket.recv())
        async with connect(f"{place.server.ws_url}/ws", origin=listed) as socket:  # pyright: ignore[reportArgumentType]
            assert "connection_status" in str(await socket.recv())


# ---------------------------------------------------------------- figures and observers
@pytest.mark.row("HIVE-73", "CFLOW-12", "HIVE-D25", "HIVE-14", "CFLOW-D7")
async def test_the_figures_are_those_of_what_happened() -> None:
    with site() as place:
        place.hub.open("a")
        place.tokens("a", 3)
        async with raw_client(place) as client:
            await client.ask("subscribe_execution", {"execution_id": "a"})
            await client.ask("join_room", {"room_id": "lobby"})
            assert not (await client.ask("shout"))["ok"]
            async with asyncio.timeout(10):
                while place.gateway.statistics().updates_sent < 4:
                    await asyncio.sleep(0.01)
            (figures,) = place.gateway.clients
            assert place.gateway.client(figures.connection_id) is not None
            assert place.gateway.client("nobody") is None
            assert (figures.transport, figures.executions, figures.rooms) == ("socketio", ("a",), ("lobby",))
            now = place.gateway.statistics()
            transport = now.transports["socketio"]
            assert (now.connections, transport.opened, sum(transport.closed.values())) == (1, 1, 0)
            assert (transport.updates, now.updates_sent) == (4, 4)
            assert transport.bytes > 4 * 100
            assert now.received["subscribe_execution"] == 1
            assert now.received["other"] == 1
            assert now.refused["4000"] == 1
            assert (now.subscriptions, now.subscriptions_opened, now.rooms_joined) == (2, 2, 1)
            assert (now.resumes, now.resumes_lost) == (0, 0)
            answer = await client.ask("subscribe_execution", {"execution_id": "a"})
            for after in (answer["position"], "gone:1"):
                await client.ask("subscribe_execution", {"execution_id": "a", "after": after})
            now = place.gateway.statistics()
            assert (now.resumes, now.resumes_lost, now.subscriptions) == (1, 1, 2)
        async with asyncio.timeout(10):
            while place.gateway.connections:
                await asyncio.sleep(0.01)
        after = place.gateway.statistics()
        assert (after.connections, sum(after.transports["socketio"].closed.values()), after.subscriptions) == (0, 1, 0)


@pytest.mark.row("HIVE-74")
async def test_the_application_is_told_and_what_it_raises_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    told: list[GatewayEvent] = []

    def observer(event: GatewayEvent) -> None:
        told.append(event)
        raise RuntimeError("the observer is broken")

    streaming = StreamingModule(StreamingSettings(), observer=observer)
    app = FastAPI()
    streaming.install(app)
    with serve(app, log_config=None) as server:
        place = Site(hub=streaming.hub, gateway=streaming.gateway, server=server)
        streaming.hub.open("a")
        async with raw_client(place) as client:
            await client.ask("subscribe_execution", {"execution_id": "a"})
            await client.ask("unsubscribe_execution", {"execution_id": "a"})
            await client.ask("join_room", {"room_id": "lobby"})
            await client.ask("leave_room", {"room_id": "lobby"})
            await client.ask("shout")
    names = [event.name for event in told]
    for name in (
        "gateway.client.connected",
        "gateway.subscription.execution",
        "gateway.unsubscription.execution",
        "gateway.room.joined",
        "gateway.room.left",
        "gateway.message.received",
        "gateway.message.sent",
        "gateway.client.refused",
        "gateway.client.disconnected",
    ):
        assert name in names, name
    assert names.index("gateway.client.connected") < names.index("gateway.subscription.execution")
    assert names[-1] == "gateway.client.disconnected"
    assert "the observer is broken" in caplog.text
    caplog.clear()


@pytest.mark.row("CFLOW-11", "PYEV-13", "FLOW-39")
async def test_the_headers_of_a_stream() -> None:
    with site() as place:
        place.hub.open("a")
        async with (
            httpx2.AsyncClient(timeout=10) as http,
            http.stream("GET", f"{place.url}/executions/a/stream") as stream,
        ):
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["cache-control"] == "no-cache, no-transform"
            assert stream.headers["x-accel-buffering"] == "no"


async def test_a_hub_without_a_gateway_serves_only_what_its_own_routes_do() -> None:
    with site() as place:
        app = make_app(place.hub, place.gateway)
        assert {getattr(route, "path", None) for route in app.routes} >= {"/ws", "/health", "/executions"}
