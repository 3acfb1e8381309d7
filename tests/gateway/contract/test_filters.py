"""Every transport, the Python reader and the browser's module know the same conditions, and they mean the same."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from lg_streaming import sse_response
from lg_streaming.client import SocketIOClient, SSEClient
from lg_streaming.errors import BadRequestError
from lg_streaming.events import Scope
from lg_streaming.filters import FILTER_FIELDS, FILTER_LISTS, FilterOptions, UpdateFilter
from lg_streaming.gateway.http.openapi import openapi_schema
from lg_streaming.gateway.protocol.inbound import SubscribeEvents, SubscribeExecution
from lg_streaming.hub import StreamHub
from tests.gateway.contract.adapters import READERS, Readers, RefusedError, SocketReader, numbers, take, until_over
from tests.gateway.contract.adapters import updates_in as updates_of
from tests.gateway.site import Site
from tests.support.node import node_executable
from tests.support.server import serve

STATIC = Path(__file__).parents[3] / "lg_streaming/static"
_names = (f"filtered-{number}" for number in itertools.count())

PUBLISHED: list[tuple[str, dict[str, Any]]] = [
    ("token", {"node_id": "write", "namespace": "write:1"}),
    ("node_start", {"node_id": "model", "namespace": "team:1|model:2", "agent_type": "lead"}),
    ("token", {"node_id": "model", "namespace": "team:1|researcher:3|model:4", "agent_type": "researcher"}),
    ("token", {"node_id": "tools", "namespace": "team:1|1|researcher:3|tools:5", "agent_type": "researcher"}),
    ("tool_start", {"node_id": "tools", "namespace": "team:1/tools:6", "agent_type": "research"}),
    ("progress", {"node_id": "review-2", "namespace": "review-2:7", "category": "billing"}),
    ("task:done", {"node_id": "a/b"}),
    ("alarm", {}),
]

TABLE: dict[str, dict[str, Any]] = {
    "a node": {"node_ids": ["model"]},
    "nodes by glob": {"node_ids": ["review*", "wri*e"]},
    "a glob of nodes stays in its segment": {"node_ids": ["a*"]},
    "a glob of nodes across": {"node_ids": ["a**"]},
    "an agent": {"agent_types": ["researcher"]},
    "agents by glob": {"agent_types": ["research*", "nobody"]},
    "a node path": {"namespaces": ["team/model"]},
    "within a segment": {"namespaces": ["team/*"]},
    "across segments": {"namespaces": ["team/**"]},
    "the end of a path": {"namespaces": ["**/tools"]},
    "a segment in the middle": {"namespaces": ["*/researcher/*"]},
    "a raw namespace": {"namespaces": ["team:1|researcher:3|model:4"]},
    "a raw namespace of another task": {"namespaces": ["team:2|researcher:3|model:4"]},
    "a category": {"categories": ["billing"]},
    "no category": {"categories": ["default"]},
    "a priority": {"min_priority": "high"},
    "kinds and nodes": {"events": ["token"], "node_ids": ["model", "tools"]},
    "all at once": {
        "events": ["token"],
        "node_ids": ["m*"],
        "agent_types": ["researcher"],
        "namespaces": ["team/**"],
        "categories": ["default"],
        "min_priority": "low",
        "since": datetime(2020, 1, 1, tzinfo=UTC),
        "until": datetime(2120, 1, 1, tzinfo=UTC),
    },
    "too late": {"since": datetime(2120, 1, 1, tzinfo=UTC)},
    "too early": {"until": datetime(1999, 1, 1, tzinfo=UTC)},
}


def on_the_wire(wanted: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in wanted.items()}


@pytest.fixture
async def filled(shared_site: Site) -> tuple[str, list[Any]]:
    """An execution, and all its updates."""
    execution_id, hub = next(_names), shared_site.hub
    for type, scope in PUBLISHED:  # noqa: A001
        hub.publish(execution_id, type, {}, scope=Scope(**scope), priority="high" if type == "alarm" else None)
    await hub.close(execution_id)
    return execution_id, [update async for update in hub.subscribe(execution_id)]


def expected(updates: list[Any], wanted: dict[str, Any]) -> list[int]:
    chosen = UpdateFilter.of(**wanted)
    return [update.metadata.sequence_number for update in updates if chosen.matches(update)]


def test_the_table_asks_for_everything() -> None:
    assert {name for wanted in TABLE.values() for name in wanted} == set(FILTER_FIELDS)


@pytest.mark.parametrize("wanted", TABLE.values(), ids=TABLE)
async def test_over_every_transport(
    shared_site: Site, readers: Readers, filled: tuple[str, list[Any]], wanted: dict[str, Any]
) -> None:
    execution_id, updates = filled
    reader = readers(shared_site.server)
    await reader.subscribe(execution_id, **on_the_wire(wanted))
    assert numbers(updates_of(await until_over(reader))) == expected(updates, wanted)


@pytest.mark.parametrize("wanted", TABLE.values(), ids=TABLE)
async def test_in_python(shared_site: Site, filled: tuple[str, list[Any]], wanted: dict[str, Any]) -> None:
    execution_id, updates = filled
    hub, right = shared_site.hub, expected(updates, wanted)
    assert [each.metadata.sequence_number async for each in hub.subscribe(execution_id, **wanted)] == right
    for kind in (SSEClient, SocketIOClient):
        async with kind(shared_site.server.url) as client:
            read = client.subscribe(execution_id, **wanted)
            assert [each.metadata.sequence_number async for each in read] == right
    sink = _Kept()
    await hub.attach(execution_id, sink, **wanted).wait()
    assert sink.numbers == right


class _Kept:
    id = "kept"

    def __init__(self) -> None:
        self.numbers: list[int] = []

    async def send(self, updates: Any) -> None:
        self.numbers += [each.metadata.sequence_number for each in updates]

    async def closed(self, reason: str) -> None: ...

    def is_active(self) -> bool:
        return True


async def test_of_a_route_of_ones_own(filled: tuple[str, list[Any]], shared_site: Site) -> None:
    app = FastAPI()

    @app.get("/{name}")
    async def stream(name: str) -> Any:
        return sse_response(shared_site.hub, filled[0], batch=True, **TABLE[name])

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as http:
        for name, wanted in TABLE.items():
            text = (await http.get(f"/{name}")).text
            found = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: [")]
            assert numbers([update for batch in found for update in batch]) == expected(filled[1], wanted), name


@pytest.mark.parametrize("transport", ["socketio", "websocket"])
async def test_of_all_executions(shared_site: Site, transport: str) -> None:
    for wanted in (TABLE["across segments"], TABLE["agents by glob"], TABLE["nodes by glob"]):
        execution_id = next(_names)
        reader = READERS[transport](shared_site.server)
        assert isinstance(reader, SocketReader)
        await reader.ask("subscribe_events", {"executions": [execution_id], **wanted})
        for type, scope in PUBLISHED:  # noqa: A001
            shared_site.hub.publish(execution_id, type, {}, scope=Scope(**scope))
        await shared_site.hub.close(execution_id)
        updates = [update async for update in shared_site.hub.subscribe(execution_id)]
        right = expected(updates, wanted)
        assert right
        assert numbers(await take(reader, len(right))) == right
        await reader.aclose()


# ---------------------------------------------------------------- nobody forgets one
def test_every_place_that_takes_conditions_takes_all() -> None:
    of = set(inspect.signature(UpdateFilter.of).parameters) - {"types"}
    assert of == set(FILTER_FIELDS) == set(FilterOptions.__annotations__)
    for message in (SubscribeExecution, SubscribeEvents):
        assert set(FILTER_FIELDS) <= set(message.model_fields)
    paths = openapi_schema()["paths"]
    for route in ("stream", "updates"):
        parameters = paths[f"/executions/{{execution_id}}/{route}"]["get"]["parameters"]
        assert set(FILTER_FIELDS) <= {each["name"] for each in parameters}
    command = f"""import {{ FILTERS }} from "{(STATIC / "lg-streaming/options.js").as_uri()}";
    console.log(JSON.stringify(Object.fromEntries(Object.entries(FILTERS).map(([name, [wire]]) => [name, wire]))))"""
    done = subprocess.run(
        [node_executable(), "--input-type=module", "-e", command], capture_output=True, text=True, check=True
    )
    in_javascript: dict[str, str] = json.loads(done.stdout)
    assert list(in_javascript.values()) == list(FILTER_FIELDS)
    assert all(re.sub(r"[A-Z]", lambda m: f"_{m[0].lower()}", name) == wire for name, wire in in_javascript.items())
    types = (STATIC / "lg-streaming.d.ts").read_text(encoding="utf-8")
    block = types.partition("export interface FilterOptions {")[2].partition("\n}")[0]
    assert re.findall(r"^  (\w+)\?:", block, re.MULTILINE) == list(in_javascript)


@pytest.mark.parametrize("name", FILTER_LISTS)
async def test_lists_in_a_query_are_separated_by_commas_or_repeated(
    shared_site: Site, filled: tuple[str, list[Any]], name: str
) -> None:
    values = {
        "events": ["token", "alarm"],
        "node_ids": ["write", "review*"],
        "agent_types": ["lead", "research"],
        "namespaces": ["write", "team/*"],
        "categories": ["billing", "default"],
    }[name]
    url = f"{shared_site.server.url}/executions/{filled[0]}/updates"
    async with httpx2.AsyncClient() as http:
        queries: tuple[Any, ...] = ({name: ",".join(values)}, {name: values})
        for query in queries:
            page = (await http.get(url, params=query)).json()
            assert numbers(page["updates"]) == expected(filled[1], {name: values})


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespaces": ["x" * 257]},
        {"node_ids": [""]},
        {"agent_types": [f"{index:04}{'*a' * 60}" for index in range(60)]},
        {"namespaces": [f"{index:04}{'*/' * 60}" for index in range(60)]},
        {"namespace": ["a"]},
    ],
    ids=["long", "empty", "many agents", "many paths", "unknown"],
)
async def test_what_is_no_condition_is_refused(shared_site: Site, readers: Readers, wrong: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as refused:
        await readers(shared_site.server).subscribe(next(_names), **wrong)
    assert refused.value.code == 4000


def test_what_is_no_condition_is_refused_in_python() -> None:
    hub: Any = StreamHub()
    with pytest.raises(BadRequestError, match="list of names"):
        hub.subscribe("e", namespaces="agent")
    with pytest.raises(TypeError, match="namespace"):
        hub.subscribe("e", namespace=["agent"])
    with pytest.raises(BadRequestError, match="node_ids"):
        hub.subscribe("e", filter=UpdateFilter.of(), node_ids=["a"])
    with pytest.raises(BadRequestError, match="until"):
        hub.subscribe("e", until="tomorrow")


async def test_a_condition_that_is_none_is_no_condition(shared_site: Site, filled: tuple[str, list[Any]]) -> None:
    none: dict[str, Any] = dict.fromkeys(FILTER_FIELDS)
    assert len([update async for update in shared_site.hub.subscribe(filled[0], **none)]) == len(filled[1])


def test_a_condition_made_to_be_slow_is_not() -> None:
    wanted = UpdateFilter.of(namespaces=["*a" * 60 + "b" for _ in range(30)], node_ids=["**a" * 40 + "b"])
    scope = Scope(node_id="a" * 400, namespace="/".join(["a" * 20] * 100))
    assert not wanted.accepts("token", scope, "medium")


async def test_a_server_of_another_process_gets_the_conditions() -> None:
    hub, app = StreamHub(), FastAPI()

    @app.get("/own")
    async def own() -> Any:
        return sse_response(hub, "e", namespaces=["team/**"], until="interrupted")

    for type, scope in PUBLISHED:  # noqa: A001
        hub.publish("e", type, {}, scope=Scope(**scope))
    hub.publish("e", "workflow_interrupted", {})
    hub.publish("e", "token", {}, scope=Scope(namespace="team:1|late:2"))
    with serve(app) as server:
        async with httpx2.AsyncClient(timeout=10) as http:
            text = (await http.get(f"{server.url}/own")).text
    assert text.count("event: token") == 2
    assert text.rstrip().endswith('data: {"execution_id":"e"}')
