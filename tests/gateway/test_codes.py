"""Every code of the table, provoked: the caller's error, its HTTP status, and the end of the connection."""
# pyright: reportPrivateUsage=false

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from lg_streaming import StreamingModule, human_prompt
from lg_streaming.activity import TaskStream
from lg_streaming.codec import Codec
from lg_streaming.errors import CODES, StreamingError
from lg_streaming.events import Scope
from lg_streaming.gateway import Gateway, Principal
from lg_streaming.hub import StreamHub
from lg_streaming.log import Batch, PendingUpdate
from lg_streaming.runs import GraphRunner
from lg_streaming.settings import StreamingSettings
from tests.gateway.contract.adapters import (
    PATIENCE,
    RefusedError,
    SocketIOReader,
    SocketReader,
    SSEReader,
    WebSocketReader,
    first,
    until_over,
)
from tests.gateway.site import SECRET, Site, make_app, site
from tests.gateway.starts import start_site
from tests.hub.faulty import FaultyLog
from tests.hub.helpers import until
from tests.support.memory_fleet import Network
from tests.support.server import serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a provoked error."""

    error: dict[str, Any]
    status: int | None = None
    """Of the HTTP answer."""
    closed: int | None = None
    """The WebSocket's close code; None: it is still open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    code: int
    transport: str
    provoke: Callable[[], Awaitable[Outcome]]
    retry_after: bool
    status: int | None


CASES: list[Case] = []

Provoke = Callable[[], Awaitable[Outcome]]


def provokes(
    code: int, transport: str, *, retry_after: bool = False, status: int | None = None
) -> Callable[[Provoke], Provoke]:
    def note(provoke: Provoke) -> Provoke:
        CASES.append(
            Case(
                code=code,
                transport=transport,
                provoke=provoke,
                retry_after=retry_after,
                status=status,
            )
        )
        return provoke

    return note


# ---------------------------------------------------------------- ways to provoke
def bearer(subject: str = "alice", lifetime: float = 600) -> str:
    return jwt.encode({"sub": subject, "exp": int(time.time() + lifetime)}, SECRET, "HS256")


async def anybody(_: Principal, __: str, ___: str, ____: str | None) -> bool:
    return True


AUTH: dict[str, Any] = {"auth": {"secret": SECRET}, "authorize": anybody}


@contextmanager
def faulty_site() -> Generator[tuple[Site, FaultyLog]]:
    log = FaultyLog()
    hub = StreamHub(StreamingSettings(), log=log)
    gateway = Gateway(hub)
    with serve(make_app(hub, gateway), log_config=None) as server:
        yield Site(hub=hub, gateway=gateway, server=server), log


async def over_http(place: Site, execution_id: str = "e", *, token: str | None = None, **headers: str) -> Outcome:
    """Return the response to a stream's request."""
    more = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(timeout=PATIENCE) as http:
        answer = await http.get(f"{place.url}/executions/{execution_id}/stream", headers={**more, **headers})
    error = answer.json()["error"]
    if "retry_after_ms" in error:
        assert int(answer.headers["retry-after"]) >= 1
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["cache-control"] == "no-store"
    return Outcome(error=error, status=answer.status_code)


async def asked(reader: SocketReader, name: str, payload: Any = None, *, times: int = 1) -> Outcome:
    """Return the answer to the last of so many messages, and whether the connection stayed open."""
    error: dict[str, Any] = {}
    for _ in range(times):
        with pytest.raises(RefusedError) as refused:
            await reader.ask(name, payload)
        error = refused.value.error
    return Outcome(error=error, closed=await _closed(reader))


async def _closed(reader: SocketReader) -> int | None:
    try:
        await reader.ask("ping")
    except RefusedError:
        return reader.close_code
    return None


async def _connected(place: Site, **options: Any) -> WebSocketReader:
    reader = WebSocketReader(place.server, **options)
    await reader.open()
    return reader


async def refused_to_connect(place: Site, **options: Any) -> Outcome:
    reader = WebSocketReader(place.server, **options)
    try:
        with pytest.raises(RefusedError) as refused:
            await reader.open()
        return Outcome(error=refused.value.error, closed=reader.close_code)
    finally:
        await reader.aclose()


async def _over(reader: SocketReader) -> Outcome:
    """Return how a connection ended without a violation."""
    items = await until_over(reader)
    errors = [item.payload for item in items if item.what == "error"]
    await reader.aclose()
    return Outcome(error=errors[-1] if errors else {}, closed=reader.close_code)


async def _ask_once(place: Site, name: str, payload: Any, *, times: int = 1, **options: Any) -> Outcome:
    reader = await _connected(place, **options)
    try:
        return await asked(reader, name, payload, times=times)
    finally:
        await reader.aclose()


# ---------------------------------------------------------------- one for each
@provokes(4000, "websocket")
async def _() -> Outcome:
    with site() as place:
        return await _ask_once(place, "subscribe_execution", {"execution_id": "a b"}, times=3)


@provokes(4000, "http")
async def _() -> Outcome:
    with site() as place:
        return await over_http(place, "a%20b")


@provokes(4001, "websocket")
async def _() -> Outcome:
    with site() as place:
        return await _ask_once(place, "subscribe_execution", {"execution_id": "e", "after": "x"}, times=4)


@provokes(4001, "http")
async def _() -> Outcome:
    with site() as place:
        return await over_http(place, **{"Last-Event-ID": "17"})


@provokes(4010, "websocket")
async def _() -> Outcome:
    with site(**AUTH) as place:
        return await refused_to_connect(place, token="x.y.z")


@provokes(4010, "http")
async def _() -> Outcome:
    with site(**AUTH) as place:
        return await over_http(place)


@provokes(4011, "websocket")
async def _() -> Outcome:
    with site(**AUTH) as place:
        return await _ask_once(place, "authenticate", {"token": bearer(lifetime=-60)}, token=bearer())


@provokes(4011, "http")
async def _() -> Outcome:
    with site(**AUTH) as place:
        return await over_http(place, token=bearer(lifetime=-60))


@provokes(4030, "websocket")
async def _() -> Outcome:
    with site(auth={"secret": SECRET}) as place:
        return await _ask_once(place, "subscribe_execution", {"execution_id": "e"}, times=4, token=bearer())


@provokes(4030, "http")
async def _() -> Outcome:
    with site(auth={"secret": SECRET}) as place:
        return await over_http(place, token=bearer())


@provokes(4031, "websocket")
async def _() -> Outcome:
    with site() as place:
        return await refused_to_connect(place, headers={"Origin": "https://evil.example.com"})


@provokes(4031, "http")
async def _() -> Outcome:
    with site() as place:
        return await over_http(place, Origin="https://evil.example.com")


@provokes(4080, "websocket")
async def _() -> Outcome:
    with site(**AUTH, limits={"login_timeout": 0.1}) as place:
        return await _over(await _connected(place))


@contextmanager
def with_a_gap() -> Generator[Site]:
    with site(retention={"max_updates": 2}) as place:
        place.tokens("e", 10)
        yield place


@provokes(4050, "http", status=405)
async def _() -> Outcome:
    with site() as place:
        async with httpx2.AsyncClient(timeout=PATIENCE) as http:
            answer = await http.put(f"{place.url}/executions/e")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"
    return Outcome(error=answer.json()["error"], status=answer.status_code)


@provokes(4090, "websocket")
async def _() -> Outcome:
    with site() as place:
        place.hub.open("e")
        answer = {"execution_id": "e", "prompt_id": "p", "response": "yes"}
        reader = await _connected(place)
        try:
            return await asked(reader, "respond", answer, times=4)
        finally:
            await reader.aclose()


@provokes(5032, "http", retry_after=True, status=503)
async def _() -> Outcome:
    unreachable = {"jwks_url": "http://127.0.0.1:9/keys"}
    key = ed25519.Ed25519PrivateKey.generate()
    token = jwt.encode({"sub": "alice", "exp": int(time.time() + 600)}, key, "EdDSA", headers={"kid": "k"})
    with site(auth=unreachable) as place:
        return await over_http(place, token=token)


@provokes(4091, "websocket")
async def _() -> Outcome:
    with with_a_gap() as place:
        return await _ask_once(place, "subscribe_execution", {"execution_id": "e", "on_gap": "fail"}, times=4)


@provokes(4091, "http")
async def _() -> Outcome:
    with with_a_gap() as place:
        reader = SSEReader(place.server)
        await reader.subscribe("e", on_gap="fail")
        assert (await first(reader, "gap")).payload["reason"] == "evicted"
        error = (await first(reader, "error")).payload
        assert (await reader.next()).what == "closed"
        await reader.aclose()
        return Outcome(error=error, status=200)


@provokes(4092, "producer")
async def _() -> Outcome:
    def create_twice(hub: StreamHub) -> None:
        hub.create("e")
        hub.create("e")

    return await _of_producer(create_twice)


async def _done(_: dict[str, Any]) -> dict[str, Any]:
    return {}


async def _forever(_: dict[str, Any]) -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


async def _of_run(call: Callable[[GraphRunner, Any], Awaitable[object]], node: Any = _done) -> Outcome:
    graph: Any = (
        StateGraph(cast("Any", dict))
        .add_node("node", node)
        .add_edge(START, "node")
        .compile(checkpointer=InMemorySaver())
    )
    async with StreamingModule() as streaming:
        try:
            await call(streaming.runs, graph)
        except StreamingError as error:
            return Outcome(error=error.to_dict())
    raise AssertionError("no error")


@provokes(4041, "producer")
async def _() -> Outcome:
    return await _of_run(lambda runs, _: runs.start("unknown", {}))


@provokes(4081, "producer")
async def _() -> Outcome:
    return await _of_run(lambda runs, graph: runs.run(graph, {}, deadline=0.01), _forever)


@provokes(4082, "producer")
async def _() -> Outcome:
    async def ask(state: dict[str, Any]) -> dict[str, Any]:
        return {"answer": await human_prompt("Go on?", timeout=0.01)}

    return await _of_run(lambda runs, graph: runs.run(graph, {}), ask)


@provokes(4093, "producer")
async def _() -> Outcome:
    async def start_twice(runs: GraphRunner, graph: Any) -> None:
        await runs.run(graph, {"a": 1}, idempotency_key="k")
        await runs.run(graph, {"a": 2}, idempotency_key="k")

    return await _of_run(start_twice)


@provokes(4098, "producer")
async def _() -> Outcome:
    async def cancel(runs: GraphRunner, graph: Any) -> None:
        run = await runs.start(graph, {})
        await run.cancel()
        await run

    return await _of_run(cancel, _forever)


@provokes(4130, "websocket")
async def _() -> Outcome:
    with site(uvicorn={"ws_max_size": 1 << 24}, limits={"inbound_bytes": 1_000}) as place:
        reader = await _connected(place)
        await reader.send(reader.encode("ping", "x" * 2_000, 1))
        return await _over(reader)


@provokes(4040, "producer")
async def _() -> Outcome:
    return await _of_producer(lambda hub: hub.publish("e", "note", missing="raise"))


@provokes(4131, "producer")
async def _() -> Outcome:
    return await _of_producer(lambda hub: hub.publish("e", "note", "x" * 300_000))


@provokes(4290, "websocket")
async def _() -> Outcome:
    with site(limits={"subscriptions_per_connection": 1}) as place:
        reader = await _connected(place)
        await reader.subscribe("a")
        outcome = await asked(reader, "subscribe_execution", {"execution_id": "b"}, times=4)
        await reader.aclose()
        return outcome


@provokes(4291, "websocket", retry_after=True)
async def _() -> Outcome:
    with site(limits={"connections_per_address": 1}) as place:
        reader = await _connected(place)
        outcome = await refused_to_connect(place)
        await reader.aclose()
        return outcome


@provokes(4291, "http", retry_after=True)
async def _() -> Outcome:
    with site(limits={"connections_per_address": 1}) as place:
        reader = await _connected(place)
        outcome = await over_http(place)
        await reader.aclose()
        return outcome


@provokes(4291, "http", retry_after=True, status=503)
async def _() -> Outcome:
    with site(limits={"connections": 1}) as place:
        reader = await _connected(place)
        outcome = await over_http(place)
        await reader.aclose()
        return outcome


@provokes(4292, "websocket", retry_after=True)
async def _() -> Outcome:
    with site(limits={"connects_per_address": "1/hour"}) as place:
        await (await _connected(place)).aclose()
        return await refused_to_connect(place)


@provokes(4292, "http", retry_after=True)
async def _() -> Outcome:
    with site(**AUTH, limits={"failed_logins_per_address": "1/hour"}) as place:
        await over_http(place)
        return await over_http(place, token=bearer())


@provokes(4293, "websocket", retry_after=True)
async def _() -> Outcome:
    with site(limits={"messages_per_second": 0.1, "message_burst": 1}) as place:
        reader = await _connected(place)
        await reader.ask("ping")
        outcome = await asked(reader, "ping", times=3)
        await reader.aclose()
        return outcome


@provokes(4294, "websocket")
async def _() -> Outcome:
    with site(limits={"max_subscribers_per_execution": 1}) as place:
        other = await _connected(place)
        await other.subscribe("e")
        outcome = await _ask_once(place, "subscribe_execution", {"execution_id": "e"}, times=4)
        await other.aclose()
        return outcome


@provokes(4294, "http")
async def _() -> Outcome:
    with site(limits={"max_subscribers_per_execution": 1}) as place:
        other = await _connected(place)
        await other.subscribe("e")
        outcome = await over_http(place)
        await other.aclose()
        return outcome


@provokes(4295, "producer")
async def _() -> Outcome:
    def open_two(hub: StreamHub) -> None:
        hub.open("a")
        hub.open("b")

    return await _of_producer(open_two, limits={"max_executions": 1})


@provokes(4096, "producer")
async def _() -> Outcome:
    def complete_what_has_not_started(hub: StreamHub) -> None:
        TaskStream(hub.emitter("e"), "t").completed()

    return await _of_producer(complete_what_has_not_started)


async def _over_a_start(
    *bodies: dict[str, Any], path: str = "/executions", waits: bool = False, **settings: Any
) -> Outcome:
    """The answer to the last of several requests; `waits`: once the first run waits for a human."""
    with start_site(auth={"enabled": None}, **settings) as place:
        async with httpx2.AsyncClient(base_url=place.url, trust_env=False, verify=False) as http:
            for body in bodies[:-1]:
                assert (await http.post("/executions", json=body)).status_code == 201
            async with asyncio.timeout(PATIENCE):
                while waits and (await http.get("/executions/e")).json()["state"] != "interrupted":
                    await asyncio.sleep(0.01)
            answer = await http.post(path, json=bodies[-1])
            await http.delete("/executions/e")
    return Outcome(error=answer.json()["error"], status=answer.status_code)


ASK: dict[str, Any] = {"graph": "ask", "input": {}, "execution_id": "e"}


@provokes(4092, "http")
async def _() -> Outcome:
    return await _over_a_start(ASK, ASK)


@provokes(4096, "http")
async def _() -> Outcome:
    return await _over_a_start(ASK, {"input": {}, "as_node": "work"}, path="/executions/e/inputs", waits=True)


@provokes(4295, "http", retry_after=True)
async def _() -> Outcome:
    return await _over_a_start(ASK, {**ASK, "execution_id": "f"}, limits={"max_executions": 1})


@provokes(4296, "http", retry_after=True)
async def _() -> Outcome:
    start: dict[str, Any] = {"graph": "shout", "input": {}}
    return await _over_a_start(start, start, limits={"starts_per_subject": "1/minute"})


@provokes(4097, "producer")
async def _() -> Outcome:
    log = FaultyLog()
    log.owners["e"] = "bob"
    scope = Scope(run_id="r")
    body = Codec().encode("e", "workflow_start", {}, scope, "high", 1.0)
    with pytest.raises(StreamingError) as raised:
        log.append(Batch("e", [PendingUpdate("workflow_start", scope, "high", 1.0, body)], "p", 1, "alice"))
    return Outcome(error=raised.value.to_dict())


@provokes(4400, "websocket")
async def _() -> Outcome:
    with site(limits={"send_timeout": 0.2}, retention={"max_bytes": 1 << 30}) as place:
        reader = await _connected(place)
        line = await reader.open()
        await reader.subscribe("big")
        line.transport.pause_reading()
        for _number in range(3_000):
            place.hub.publish("big", "note", {"fill": "x" * 10_000})
        async with asyncio.timeout(PATIENCE):
            while place.gateway.connections and not _closing(place):
                await asyncio.sleep(0.01)
        line.transport.resume_reading()
        return await _over(reader)


def _closing(place: Site) -> bool:
    """Return whether the only connection is being closed."""
    return any(
        socket._websocket.closing  # pyright: ignore[reportAttributeAccessIssue]
        for socket in place.gateway._websocket._open
    )


@provokes(4401, "socketio")
async def _() -> Outcome:
    with site(gateway={"ping_interval": 0.1, "ping_timeout": 0.1}) as place:
        reader = SocketIOReader(place.server)
        await reader.open()
        return await _over(reader)


@provokes(4500, "websocket")
async def _() -> Outcome:
    with site() as place:
        reader = await _connected(place)
        stopping = asyncio.create_task(asyncio.to_thread(place.server.stop))
        assert (await first(reader, "other", "server_restart")).payload["retry_ms"] >= 500
        outcome = await _over(reader)
        await stopping
        return outcome


@provokes(4500, "http", retry_after=True)
async def _() -> Outcome:
    with site() as place:
        place.gateway._lifecycle.draining = True
        return await over_http(place)


@provokes(5030, "websocket")
async def _() -> Outcome:
    with faulty_site() as (place, log):
        log.away = True
        return await _ask_once(place, "subscribe_execution", {"execution_id": "e"}, times=4)


@provokes(5030, "http")
async def _() -> Outcome:
    with faulty_site() as (place, log):
        log.away = True
        return await over_http(place)


@provokes(5041, "websocket")
async def _() -> Outcome:
    network = Network()
    holder, hub = StreamHub(log=network.log("a")), StreamHub(log=network.log("b"))
    gateway = Gateway(hub)
    try:
        holder.open("e")
        await until(lambda: network.holders.get("e") == "a")
        network.fleets["a"].deaf = True
        with serve(make_app(hub, gateway), log_config=None) as server:
            place = Site(hub=hub, gateway=gateway, server=server)
            return await _ask_once(place, "cancel_execution", {"execution_id": "e"})
    finally:
        await holder.aclose()


@provokes(5031, "producer")
async def _() -> Outcome:
    hub = StreamHub()
    await hub.aclose()
    with pytest.raises(StreamingError) as raised:
        hub.open("e")
    return Outcome(error=raised.value.to_dict())


@provokes(5031, "http")
async def _() -> Outcome:
    with site() as place:
        await place.hub.aclose()
        return await over_http(place)


@provokes(5040, "producer")
async def _() -> Outcome:
    class Broken:
        id = "broken"

        async def send(self, updates: object) -> None:
            raise OSError("away")

        async def closed(self, reason: object) -> None: ...

        def is_active(self) -> bool:
            return True

    hub = StreamHub()
    hub.attach("e", Broken(), on_error="raise")
    hub.publish("e", "note")
    with pytest.raises(StreamingError) as raised:
        await hub.sinks.flush("e")
    await hub.aclose()
    return Outcome(error=raised.value.to_dict())


async def _of_producer(act: Callable[[StreamHub], None], **settings: Any) -> Outcome:
    hub = StreamHub(StreamingSettings(**settings))
    try:
        with pytest.raises(StreamingError) as raised:
            act(hub)
    finally:
        await hub.aclose()
    return Outcome(error=raised.value.to_dict())


# ---------------------------------------------------------------- the tests
@pytest.mark.row("HIVE-70")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.transport}")
async def test_a_code_is_told_as_the_table_says(case: Case) -> None:
    known = CODES[case.code]
    outcome = await case.provoke()
    if outcome.error:
        told = outcome.error
        assert (told["code"], told["name"], told["retryable"]) == (known.number, known.name, known.retryable)
        assert told["message"]
        assert ("retry_after_ms" in told) is case.retry_after
        if case.retry_after:
            assert told["retry_after_ms"] > 0
    else:
        assert case.code in {4400, 4401, 4500}, "only who cannot or need not be told hears nothing but the close"
    if case.transport == "http":
        assert outcome.status == (case.status or known.http_status)
    elif case.transport != "producer":
        assert outcome.closed == (None if known.closes == "no" else case.code)


def test_every_code_of_the_table_is_provoked() -> None:
    assert {case.code for case in CASES} == set(CODES)
    producers = {4040, 4041, 4081, 4082, 4093, 4097, 4098, 4131, 5040}
    assert {case.code for case in CASES if case.transport != "producer"} == set(CODES) - producers
