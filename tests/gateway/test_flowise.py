"""Flowise's dialect of event streams: its clients' events, made of updates."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Response
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_streaming import StreamingSettings, sse_response
from lg_streaming.codec import Codec
from lg_streaming.errors import BadRequestError
from lg_streaming.events import NO_SCOPE, Position, Scope, StreamEventType, priority_of
from lg_streaming.filters import ALL, UpdateFilter
from lg_streaming.gateway.delivery.frames import FrameCache, FrameEncoder, Frames
from lg_streaming.gateway.delivery.merge import merge
from lg_streaming.gateway.dialects import Flowise
from lg_streaming.gateway.http.context import HttpContext
from lg_streaming.gateway.http.openapi import openapi_schema
from lg_streaming.gateway.protocol.inbound import DialectName
from lg_streaming.hub import StreamHub
from lg_streaming.log.base import PendingUpdate, StoredUpdate
from tests.gateway.site import Site, site
from tests.gateway.sse import EventSource
from tests.support.server import serve

Update = tuple[str, Any]
Frame = dict[str, Any]

DONE = {"event": "end", "data": "[DONE]"}
APPROVAL = {"prompt_id": "p1", "prompt": "Shall it be sent?", "type": "approval"}
INTERRUPTED = {"node_id": "n", "interrupts": [{"id": "i1", "value": "Shall it be sent?"}]}
BUTTONS = [
    {"type": "agentflowv2-approve-button", "label": "Proceed"},
    {"type": "agentflowv2-reject-button", "label": "Reject"},
]


@pytest.fixture
async def http() -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10, headers={"Accept-Encoding": "identity"}) as client:
        yield client


def frames_of(text: str) -> list[Frame]:
    """Return the bytes on the wire, after a check that they have Flowise's form to the letter."""
    frames: list[Frame] = []
    for block in text.replace(":heartbeat\n", "").split("\n\n")[:-1]:
        field, _, data = block.partition("\n")
        assert field == "message:"
        assert data.startswith("data:{")
        assert "\n" not in data
        frames.append(json.loads(data.removeprefix("data:")))
    return frames


def record(number: int, type: str, data: Any, *, at: float = 0.0, scope: Scope = NO_SCOPE) -> StoredUpdate:
    priority = priority_of(type)
    body = Codec().encode("chat-1", type, data, scope=scope, priority=priority, timestamp=at)
    return StoredUpdate.from_pending(PendingUpdate(type, scope, priority, at, body), number, "e1")


def dialect(*, follow: bool = False) -> Flowise:
    return Flowise("chat-1", follow=follow, listener_id="l1", replica_id="r1")


def told(updates: Iterable[Update], *, follow: bool = False) -> list[Frame]:
    """Return the events of a stream for the updates, one second between each two."""
    flowise = dialect(follow=follow)
    records = [record(number, *update, at=float(number)) for number, update in enumerate(updates, 1)]
    return frames_of(flowise.encode("chat-1", records).wire.decode() if records else "")


async def read(http: httpx2.AsyncClient, place: Site, query: str = "") -> list[Frame]:
    answer = await http.get(f"{place.url}/executions/chat-1/stream?dialect=flowise{query}")
    assert answer.status_code == 200
    return frames_of(answer.text)


def named(frames: Sequence[Frame], *names: str) -> list[Any]:
    """The data of the frames of these names, in order."""
    return [frame["data"] for frame in frames if frame["event"] in names]


# ---------------------------------------------------------------- the wire
@pytest.mark.row("FLOW-24", "FLOW-25", "FLOW-26", "FLOW-37", "FLOW-D13", "FLOW-D15")
async def test_the_wire_to_the_letter(open_site: Site, http: httpx2.AsyncClient) -> None:
    hub = open_site.hub
    hub.publish("chat-1", "metadata", {"chat_id": "chat-1", "question": "Who?", "inner": "secret", "sessionId": ""})
    hub.publish("chat-1", "token", {"content": "It's\n“me”", "index": 0})
    hub.publish("chat-1", "token", {"content": ".", "index": 1})
    hub.publish("chat-1", "weather\r\n", {"rain": [True]})
    hub.publish("chat-1", "source_documents", [{"page_content": "a", "metadata": {"source": "b"}, "type": "Document"}])
    await hub.close("chat-1")
    answer = await http.get(f"{open_site.url}/executions/chat-1/stream?dialect=flowise")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "no-cache" in answer.headers["cache-control"]
    assert answer.headers["connection"] == "keep-alive"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.text == (
        'message:\ndata:{"event":"agentFlowEvent","data":"INPROGRESS"}\n\n'
        'message:\ndata:{"event":"start","data":"It\'s\\n“me”"}\n\n'
        'message:\ndata:{"event":"token","data":"It\'s\\n“me”"}\n\n'
        'message:\ndata:{"event":"token","data":"."}\n\n'
        'message:\ndata:{"event":"weather\\r\\n","data":{"rain":[true]}}\n\n'
        'message:\ndata:{"event":"sourceDocuments","data":[{"pageContent":"a","metadata":{"source":"b"}}]}\n\n'
        'message:\ndata:{"event":"agentFlowEvent","data":"FINISHED"}\n\n'
        'message:\ndata:{"event":"metadata","data":{"chatId":"chat-1","question":"Who?"}}\n\n'
        'message:\ndata:{"event":"end","data":"[DONE]"}\n\n'
    )


async def test_an_event_source_reads_plain_messages_without_ids(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.tokens("chat-1", 3)
    await open_site.hub.close("chat-1")
    source = EventSource(http, f"{open_site.url}/executions/chat-1/stream", {"dialect": "flowise"})
    async with source.open() as events:
        read = [event async for event in events]
    assert {(event.type, event.last_event_id) for event in read} == {("message", "")}
    assert [event.json["event"] for event in read] == [
        *("agentFlowEvent", "start", "token", "token", "token", "agentFlowEvent", "end")
    ]
    assert source.retry is None


async def test_the_heartbeat_is_a_comment_and_headers_come_at_once(http: httpx2.AsyncClient) -> None:
    hub = StreamHub(StreamingSettings())
    app = FastAPI()

    @app.get("/chat")
    async def chat() -> Response:
        return sse_response(hub, "chat-1", dialect="flowise", heartbeat_interval=0.02)

    with serve(app, lifespan="off") as server:
        source = EventSource(http, f"{server.url}/chat")
        async with source.open() as events:
            assert source.status == 200  # no text was sent yet
            reading = asyncio.create_task(anext(events))
            while len(source.comments) < 3:
                await asyncio.sleep(0.01)
            hub.publish("chat-1", "token", {"content": "x"})
            assert (await reading).json == {"event": "agentFlowEvent", "data": "INPROGRESS"}
            await hub.close("chat-1")
            assert [event.json["event"] async for event in events][-1] == "end"
    assert set(source.comments) == {"heartbeat"}
    await hub.aclose()


# ---------------------------------------------------------------- what becomes of updates
TOOL = {"tool": "search", "tool_call_id": "c1"}
USED = {"tool": "search", "toolInput": {"q": "rain"}, "toolOutput": "wet"}
NODE = {"node_id": "n", "node_name": "Write"}


def flow(status: str, **more: Any) -> Frame:
    return {"event": "nextAgentFlow", "data": {"nodeId": "n", "nodeLabel": "Write", "status": status, **more}}


def executed(status: str, previous: Sequence[str] = (), **details: Any) -> Frame:
    node = {"nodeId": "n", "nodeLabel": "Write", "data": {"name": "Write", **details}}
    return {"event": "agentFlowExecutedData", "data": [{**node, "previousNodeIds": list(previous), "status": status}]}


BECOMES: list[tuple[list[Update], list[Frame]]] = [
    ([("token", {"content": ""})], []),
    ([("token", "bare")], [{"event": "start", "data": "bare"}, {"event": "token", "data": "bare"}]),
    ([("error", {"message": "no", "stack": "secret"})], [{"event": "error", "data": "no"}]),
    ([("error", None)], [{"event": "error", "data": "an error"}]),
    ([("node_start", NODE)], [flow("INPROGRESS")]),
    (
        [("node_complete", {**NODE, "result": {"a": 1}, "duration_s": 0.5})],
        [flow("FINISHED"), executed("FINISHED", output={"a": 1}, duration_s=0.5)],
    ),
    (
        [("node_error", {**NODE, "error": {"message": "no", "type": "X", "stack": "secret"}})],
        [flow("ERROR", error="no"), executed("ERROR", error="no")],
    ),
    (
        [("node_error", {**NODE, "error": {"message": "cancelled", "code": "cancelled"}})],
        [flow("TERMINATED", error="cancelled"), executed("TERMINATED", error="cancelled")],
    ),
    ([("node_interrupted", NODE)], [flow("STOPPED"), executed("STOPPED")]),
    (
        [("tool_start", {**TOOL, "input": {"q": "rain"}}), ("tool_complete", {**TOOL, "output": "wet"})],
        [{"event": "calledTools", "data": [{**USED, "toolOutput": ""}]}, {"event": "usedTools", "data": [USED]}],
    ),
    (
        [("tool_error", {**TOOL, "input": "rain", "error": {"message": "no"}})],
        [
            {
                "event": "usedTools",
                "data": [{"tool": "search", "toolInput": "rain", "toolOutput": "", "error": "no"}],
            }
        ],
    ),
    (
        [("used_tools", [{"tool": "search", "input": {"q": "rain"}, "output": "wet"}, USED])],
        [{"event": "usedTools", "data": [USED, USED]}],
    ),
    (
        [("used_tools", [{"tool": "t", "output": 1, "error": "no", "source_documents": [{"page_content": "p"}]}])],
        [
            {
                "event": "usedTools",
                "data": [
                    {
                        "tool": "t",
                        "toolInput": {},
                        "toolOutput": 1,
                        "error": "no",
                        "sourceDocuments": [{"pageContent": "p"}],
                    }
                ],
            }
        ],
    ),
    ([("source_documents", {"documents": ["d"]})], [{"event": "sourceDocuments", "data": ["d"]}]),
    ([("artifacts", [{"type": "png"}])], [{"event": "artifacts", "data": [{"type": "png"}]}]),
    ([("artifacts", {"type": "png"})], [{"event": "artifacts", "data": [{"type": "png"}]}]),
    ([("usage", {"total_tokens": 3})], [{"event": "usageMetadata", "data": {"total_tokens": 3}}]),
    ([("workflow_progress", {"progress": 50})], [{"event": "workflow_progress", "data": {"progress": 50}}]),
    ([("status", "ok")], [{"event": "status", "data": "ok"}]),
    ([("agent_trace", {"step": "tool_start"})], [{"event": "agent_trace", "data": {"step": "tool_start"}}]),
    ([("custom", {"name": "note", "data": 1})], [{"event": "note", "data": 1}]),
    ([("custom", {"name": "end", "data": 1})], [{"event": "custom:end", "data": 1}]),
    ([("custom", {"name": 3, "data": 1})], [{"event": "custom", "data": {"name": 3, "data": 1}}]),
    ([("end", 1), ("abort", 2)], [{"event": "custom:end", "data": 1}, {"event": "custom:abort", "data": 2}]),
    (
        [("human_response", {"prompt_id": "p", "response": 1})],
        [
            {"event": "agentFlowEvent", "data": "INPROGRESS"},
            {"event": "human_response", "data": {"prompt_id": "p", "response": 1}},
        ],
    ),
]


@pytest.mark.row(
    *("FLOW-27", "FLOW-28", "FLOW-29", "FLOW-30", "FLOW-31", "FLOW-33", "FLOW-34", "FLOW-35", "FLOW-36", "FLOW-37")
)
@pytest.mark.parametrize(("updates", "frames"), BECOMES)
def test_updates_become_flowises_events(updates: list[Update], frames: list[Frame]) -> None:
    assert told(updates) == frames


async def test_a_chat_window_that_draws_one_answer(open_site: Site, http: httpx2.AsyncClient) -> None:
    """Flowise draws one at `start`, and one at `INPROGRESS`; the guide describes how to have only the first."""
    open_site.tokens("chat-1", 1)
    open_site.hub.publish("chat-1", "node_complete", NODE)
    await open_site.hub.fail("chat-1", "no")
    chosen = "token,event,workflow_complete,workflow_error,workflow_cancelled,workflow_interrupted"
    assert [frame["event"] for frame in await read(http, open_site, f"&events={chosen}")] == [
        *("start", "token", "nextAgentFlow", "agentFlowExecutedData", "agentFlowEvent", "error", "end")
    ]


def test_what_a_provider_says_of_a_wrong_key_stays_here() -> None:
    leak = "401 Incorrect API key provided: sk-abc***"
    frames = told([("error", {"message": leak}), ("node_error", {**NODE, "error": {"message": leak}})])
    assert "sk-abc" not in json.dumps(frames)
    assert frames[0]["data"] == "the model's provider refuses the API key"


def test_thinking_ends_with_its_duration() -> None:
    updates = [("thinking", {"content": "Let"}), ("thinking", {"content": " me"}), ("token", {"content": "A"})]
    assert told(updates) == [
        {"event": "start", "data": ""},
        {"event": "thinking", "data": "Let"},
        {"event": "thinking", "data": " me"},
        {"event": "thinking", "data": "", "duration": 2.0},
        {"event": "token", "data": "A"},
    ]
    for last in ("llm_complete", "node_complete", "workflow_complete", "workflow_interrupted", "human_prompt"):
        frames = told([("thinking", {"content": "Let"}), (last, {})])
        assert {"event": "thinking", "data": "", "duration": 1.0} in frames, last


def test_calls_side_by_side_are_told_apart() -> None:
    calls = [("tool_start", {"tool": "search", "tool_call_id": each, "input": each}) for each in ("a", "b")]
    done = [("tool_complete", {"tool": "search", "tool_call_id": each, "output": each * 2}) for each in ("b", "a")]
    frames = told([*calls, *done])
    assert [[each["toolInput"] for each in data] for data in named(frames, "calledTools")] == [["a"], ["a", "b"]]
    assert [[(each["toolInput"], each["toolOutput"]) for each in data] for data in named(frames, "usedTools")] == [
        [("b", "bb")],
        [("b", "bb"), ("a", "aa")],
    ]


def test_the_nodes_before_a_node() -> None:
    def step(*nodes: str) -> list[Update]:
        return [(name, {"node_id": node}) for name in ("node_start", "node_complete") for node in nodes]

    *_, last = told([*step("a"), *step("b", "c"), *step("d")])
    assert {node["nodeId"]: node["previousNodeIds"] for node in last["data"]} == {
        "a": [],
        "b": ["a"],
        "c": ["a"],
        "d": ["b", "c"],
    }


def test_a_long_run_stays_within_bounds() -> None:
    details = {"result": "x" * 400, "output": "x" * 400}
    flowise = dialect()
    for number in range(1, 2_000):
        record_of = (("node_complete", {"node_id": f"n{number}", **details}), ("tool_start", {"tool": f"t{number}"}))
        size = flowise.encode("chat-1", [record(number, *each) for each in record_of]).size
        assert size < 100_000
    frames = frames_of(flowise.encode("chat-1", [record(1, "node_complete", {"node_id": "last"})]).wire.decode())
    (nodes,) = named(frames, "agentFlowExecutedData")
    assert nodes[-1]["nodeId"] == "last"
    assert 32 < len(nodes) <= 128


def test_metadata_that_is_json_is_read() -> None:
    flowise = dialect()
    given = {"followUpPrompts": '["Why?"]', "flowVariables": "{not json", "memoryType": "Buffer"}
    assert not flowise.encode("chat-1", [record(1, "metadata", given)]).wire
    assert frames_of(flowise.on_end(None, run_is_over=True).decode()) == [
        {
            "event": "metadata",
            "data": {"memoryType": "Buffer", "followUpPrompts": ["Why?"], "flowVariables": "{not json"},
        },
        DONE,
    ]


def speak(hub: StreamHub) -> None:
    """Most words there are, and a failure in the midst of a tool."""
    with hub.emitter("chat-1") as emitter:
        node = emitter.node_start("write", name="Write")
        node.start("a-model")
        node.thinking("Let me see.")
        node.token("Rain.")
        node.usage(input_tokens=3, output_tokens=1)
        node.end()
        call = node.tool_start("search", {"q": "rain"})
        call.tool_complete("wet")
        node.workflow_progress(2, 1, current_node="write")
        node.node_complete({"text": "Rain."})
        emitter.source_documents([{"page_content": "It rains."}])
        emitter.artifacts([{"type": "png"}])
        emitter.custom("weather", {"rain": True})
        emitter.metadata(chatId="chat-1")
        emitter.error("a cloud")
        emitter.tool_start("search", {"q": "snow"})
        raise ValueError("no more rain")


@pytest.mark.row("FLOW-24", "FLOW-27", "FLOW-28", "FLOW-29", "FLOW-31", "FLOW-34", "FLOW-35", "FLOW-36", "FLOW-37")
async def test_what_an_emitter_says(open_site: Site, http: httpx2.AsyncClient) -> None:
    with pytest.raises(ValueError, match="no more rain"):
        speak(open_site.hub)
    frames = await read(http, open_site)
    assert [frame["event"] for frame in frames] == [
        *("agentFlowEvent", "nextAgentFlow", "llm_start", "start", "thinking", "thinking", "token", "usageMetadata"),
        *("llm_complete", "calledTools", "usedTools", "workflow_progress", "nextAgentFlow", "agentFlowExecutedData"),
        *("sourceDocuments", "artifacts", "weather", "error", "calledTools", "usedTools"),
        *("agentFlowEvent", "metadata", "error", "end"),
    ]
    assert named(frames, "sourceDocuments", "artifacts") == [[{"pageContent": "It rains."}], [{"type": "png"}]]
    assert named(frames, "usedTools") == [
        [USED],
        [USED, {"tool": "search", "toolInput": {"q": "snow"}, "toolOutput": "", "error": "no more rain"}],
    ]
    assert [(each["nodeId"], each["nodeLabel"], each["status"]) for each in named(frames, "nextAgentFlow")] == [
        *(("write", "Write", "INPROGRESS"), ("write", "Write", "FINISHED"))
    ]
    assert named(frames, "usageMetadata")[0]["total_tokens"] == 4
    assert named(frames, "agentFlowEvent", "error", "metadata", "end") == [
        *("INPROGRESS", "a cloud", "ERROR", {"chatId": "chat-1"}, "no more rain", "[DONE]")
    ]


# ---------------------------------------------------------------- how streams end
@pytest.mark.row("FLOW-27", "FLOW-34")
async def test_a_failure_is_an_error_and_then_the_end(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.hub.publish("chat-1", "metadata", {"chatId": "chat-1"})
    await open_site.hub.fail("chat-1", ValueError("no more rain"))
    assert await read(http, open_site) == [
        {"event": "agentFlowEvent", "data": "INPROGRESS"},
        {"event": "agentFlowEvent", "data": "ERROR"},
        {"event": "metadata", "data": {"chatId": "chat-1"}},
        {"event": "error", "data": "no more rain"},
        DONE,
    ]


async def test_an_error_that_was_said_is_not_said_again(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.hub.publish("chat-1", "error", {"message": "no more rain"})
    await open_site.hub.fail("chat-1", ValueError("no more rain"))
    assert named(await read(http, open_site), "error", "end") == ["no more rain", "[DONE]"]


async def test_a_reader_of_one_node_hears_that_the_run_failed(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.hub.publish("chat-1", "token", {"content": "Hm"}, scope=Scope(node_id="write"))
    open_site.hub.publish("chat-1", "token", {"content": "no"}, scope=Scope(node_id="plan"))
    await open_site.hub.fail("chat-1", ValueError("no more rain"))
    frames = await read(http, open_site, "&node_ids=write")
    assert [(frame["event"], frame["data"]) for frame in frames] == [
        *(("start", "Hm"), ("token", "Hm"), ("error", "the run failed"), ("end", "[DONE]"))
    ]


def test_how_a_later_run_ended_is_not_told_of_this_one() -> None:
    flowise = dialect()
    flowise.encode("chat-1", [record(1, "workflow_error", {}), record(2, "workflow_start", {})])
    flowise.encode("chat-1", [record(3, "workflow_complete", {})])
    assert frames_of(flowise.on_end(None, run_is_over=True, state="failed").decode()) == [DONE]
    assert frames_of(dialect().on_end(None, run_is_over=True, state="cancelled").decode()) == [
        {"event": "abort", "data": "[DONE]"},
        DONE,
    ]


async def test_a_timeout_is_told_as_such(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.hub.open("chat-1")
    await open_site.hub.fail("chat-1", TimeoutError("too slow"))
    frames = await read(http, open_site)
    assert named(frames, "agentFlowEvent", "error", "end") == ["INPROGRESS", "TIMEOUT", "too slow", "[DONE]"]


async def test_a_cancelled_run_is_aborted(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.hub.publish("chat-1", "token", {"content": "x"})
    await open_site.hub.cancel("chat-1", "enough")
    assert (await read(http, open_site))[-3:] == [
        {"event": "agentFlowEvent", "data": "TERMINATED"},
        {"event": "abort", "data": "[DONE]"},
        DONE,
    ]


def test_an_abandoned_run_is_a_failure() -> None:
    flowise = dialect()
    flowise.encode("chat-1", [record(1, "workflow_abandoned", {})])
    frames = frames_of(flowise.on_end(None, run_is_over=True).decode())
    assert frames == [{"event": "error", "data": "the program that ran it is gone"}, DONE]


async def test_a_reader_that_has_it_all_is_told_the_end(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.tokens("chat-1", 1)
    await open_site.hub.close("chat-1")
    assert await read(http, open_site, "&after=latest") == [DONE]


async def test_missing_updates_are_said_or_end_the_stream(http: httpx2.AsyncClient) -> None:
    with site(retention={"max_updates": 5}) as place:
        place.tokens("chat-1", 20)
        await place.hub.close("chat-1")
        frames = await read(http, place)
        assert [frame["event"] for frame in frames] == ["gap", "start", *["token"] * 4, "agentFlowEvent", "end"]
        assert frames[0]["data"]["reason"] == "evicted"
        assert [frame["event"] for frame in await read(http, place, "&on_gap=fail")] == ["gap", "error", "end"]


async def test_streams_that_are_cut_end_too(http: httpx2.AsyncClient) -> None:
    with site(gateway={"max_stream_duration": 0.1}) as place:
        place.hub.open("chat-1")
        frames = await read(http, place)
        assert [frame["event"] for frame in frames] == ["agentFlowEvent", "error", "end"]
        assert "as long as it may" in frames[1]["data"]


async def test_streams_end_when_the_server_stops(http: httpx2.AsyncClient) -> None:
    with site() as place:
        place.hub.open("chat-1")
        source = EventSource(http, f"{place.url}/executions/chat-1/stream", {"dialect": "flowise"})
        async with source.open() as events:
            assert (await anext(events)).json["data"] == "INPROGRESS"
            stopping = asyncio.create_task(asyncio.to_thread(place.server.stop))
            assert [event.json["event"] async for event in events] == ["error", "end"]
            await stopping


# ---------------------------------------------------------------- people
@pytest.mark.row("FLOW-32", "FLOW-33")
async def test_a_prompt_ends_the_stream_and_its_answer_is_read_by_the_next(
    open_site: Site, http: httpx2.AsyncClient
) -> None:
    hub = open_site.hub
    scope = hub.emitter("chat-1", node_id="n").scope
    hub.publish("chat-1", "node_start", NODE, scope=scope)
    hub.publish("chat-1", "token", {"content": "A letter."}, scope=scope)
    hub.publish("chat-1", "human_prompt", APPROVAL, scope=scope)
    asked = await read(http, open_site)
    action = {
        "id": "p1",
        "mapping": {"approve": "Proceed", "reject": "Reject"},
        "elements": BUTTONS,
        "data": {
            "nodeId": "n",
            "nodeLabel": "n",
            "input": {**APPROVAL, "humanInputDescription": "Shall it be sent?", "humanInputEnableFeedback": False},
        },
    }
    stopped = {"nodeId": "n", "nodeLabel": "n", "status": "STOPPED"}
    assert asked[4:] == [
        {"event": "token", "data": "\n\nShall it be sent?"},
        {"event": "nextAgentFlow", "data": stopped},
        {"event": "agentFlowExecutedData", "data": [{**stopped, "data": {"name": "n"}, "previousNodeIds": []}]},
        {"event": "agentFlowEvent", "data": "STOPPED"},
        {"event": "action", "data": action},
        {"event": "metadata", "data": {"action": action}},
        DONE,
    ]
    state = await hub.describe("chat-1")
    assert state is not None
    await hub.respond("chat-1", asked[8]["data"]["id"], {"type": "proceed"})
    hub.publish("chat-1", "token", {"content": "Sent."}, scope=scope)
    await hub.close("chat-1")
    rest = await read(http, open_site, f"&after={Position(state.epoch, state.head)}")
    assert rest == [
        {"event": "agentFlowEvent", "data": "INPROGRESS"},
        {"event": "human_response", "data": {"prompt_id": "p1", "response": {"type": "proceed"}}},
        {"event": "start", "data": "Sent."},
        {"event": "token", "data": "Sent."},
        {"event": "agentFlowEvent", "data": "FINISHED"},
        DONE,
    ]
    # Who reads it all later is not asked what has been answered.
    assert [frame["event"] for frame in await read(http, open_site)] == [
        *("agentFlowEvent", "nextAgentFlow", "start", "token", "human_response", "token", "agentFlowEvent", "end")
    ]


async def test_a_prompt_that_was_answered_much_later_is_not_asked(open_site: Site, http: httpx2.AsyncClient) -> None:
    """More lies between than is read in one go."""
    open_site.hub.publish("chat-1", "human_prompt", APPROVAL)
    open_site.tokens("chat-1", 3_000)
    await open_site.hub.respond("chat-1", "p1", True)
    await open_site.hub.close("chat-1")
    frames = await read(http, open_site)
    assert len(named(frames, "token")) == 3_000
    assert not named(frames, "action")


async def test_a_reader_who_is_there_when_a_prompt_comes(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.hub.open("chat-1")
    source = EventSource(http, f"{open_site.url}/executions/chat-1/stream", {"dialect": "flowise"})
    async with source.open() as events:
        assert (await anext(events)).json["data"] == "INPROGRESS"
        open_site.hub.publish("chat-1", "human_prompt", APPROVAL)
        assert [event.json["event"] async for event in events] == [
            *("start", "token", "agentFlowEvent", "action", "metadata", "end")
        ]
    assert open_site.hub.statistics().subscriptions == 0
    assert open_site.hub.registry.is_running("chat-1")


@pytest.mark.row("FLOW-32")
@pytest.mark.parametrize(
    ("prompt", "labels", "feedback"),
    [
        ({"type": "confirmation", "choices": ["Yes", "No"]}, ["Yes", "No"], False),
        ({"type": "choice", "choices": ["red", "blue", 3]}, ["red", "blue", "3"], False),
        ({"type": "input"}, ["Proceed", "Reject"], True),
        ({"type": "approval", "choices": "odd"}, ["Proceed", "Reject"], False),
    ],
)
def test_the_buttons_of_a_prompt(prompt: dict[str, Any], labels: list[str], feedback: bool) -> None:
    flowise = dialect()
    flowise.encode("chat-1", [record(1, "human_prompt", {**APPROVAL, **prompt})])
    (action,) = named(frames_of(flowise.caught_up().decode()), "action")
    assert [element["label"] for element in action["elements"]] == labels
    assert action["data"]["input"]["humanInputEnableFeedback"] is feedback
    approves = {element["label"] for element in action["elements"] if "approve" in element["type"]}
    assert approves == ({action["mapping"]["approve"]} if action["mapping"] else set())
    assert flowise.is_complete


def test_an_interrupt_asks_too() -> None:
    flowise = dialect()
    assert not flowise.caught_up()
    updates = [record(1, "node_interrupted", INTERRUPTED), record(2, "workflow_interrupted", {})]
    assert named(frames_of(flowise.encode("chat-1", updates[:1]).wire.decode()), "agentFlowEvent", "action") == []
    assert not flowise.caught_up(), "another node may still be at work"
    flowise.encode("chat-1", updates[1:])
    frames = frames_of(flowise.caught_up().decode())
    assert [frame["event"] for frame in frames] == ["start", "token", "agentFlowEvent", "action"]
    assert (frames[-1]["data"]["id"], frames[-1]["data"]["data"]["nodeId"]) == ("i1", "n")
    assert flowise.is_complete


@pytest.mark.row("FLOW-32")
def test_an_interrupt_with_its_prompt_asks_once() -> None:
    flowise = dialect()
    prompt = {"prompt_id": "i1", "prompt": "Shall it be sent?", "type": "approval", "node_id": "n"}
    updates = [
        record(1, "node_interrupted", INTERRUPTED),
        record(2, "human_prompt", prompt),
        record(3, "workflow_interrupted", {"prompts": [prompt]}),
    ]
    flowise.encode("chat-1", updates)
    frames = frames_of(flowise.caught_up().decode())
    assert [frame["event"] for frame in frames] == ["start", "token", "agentFlowEvent", "action"]
    assert (frames[-1]["data"]["id"], frames[-1]["data"]["data"]["nodeId"]) == ("i1", "n")
    resumed = flowise.encode("chat-1", [record(4, "status", {"status": "resumed"})])
    assert named(frames_of(resumed.wire.decode()), "agentFlowEvent") == ["INPROGRESS"]
    assert not flowise.caught_up()


def test_an_interrupt_that_says_nothing_stops_without_an_action() -> None:
    flowise = dialect()
    flowise.encode("chat-1", [record(1, "workflow_interrupted", {})])
    assert frames_of(flowise.caught_up().decode()) == [{"event": "agentFlowEvent", "data": "STOPPED"}]
    assert flowise.is_complete


@pytest.mark.parametrize(
    "going_on",
    [
        [("human_response", {"prompt_id": "p1", "response": True})],
        [("node_complete", {"node_id": "n"}), ("node_start", {"node_id": "m"})],
        [("status", {"status": "resumed"}), ("node_start", {"node_id": "n"})],
    ],
)
def test_a_run_that_went_on_does_not_ask(going_on: list[Update]) -> None:
    asking = [record(1, "human_prompt", {**APPROVAL}, scope=Scope(node_id="n"))]
    if going_on[0][0] == "status":
        asking = [record(1, "node_interrupted", INTERRUPTED), record(2, "workflow_interrupted", {})]
    records = [*asking, *(record(9, *update) for update in going_on)]
    flowise = dialect()
    assert not named(frames_of(flowise.encode("chat-1", records).wire.decode()), "action")
    assert not flowise.caught_up()
    assert not flowise.is_complete
    following = dialect(follow=True)
    following.encode("chat-1", asking)
    assert named(frames_of(following.caught_up().decode()), "agentFlowEvent") == ["STOPPED"]
    assert not following.caught_up(), "it was asked already"
    went_on = frames_of(following.encode("chat-1", [record(9, *update) for update in going_on]).wire.decode())
    assert named(went_on, "agentFlowEvent") == ["INPROGRESS"]


# ---------------------------------------------------------------- observers
async def test_an_observer_stays_over_runs(open_site: Site, http: httpx2.AsyncClient) -> None:
    hub = open_site.hub
    query = {"dialect": "flowise", "follow": "true"}
    seen: list[Frame] = []
    async with EventSource(http, f"{open_site.url}/executions/chat-1/stream", query).open() as events:
        ready = (await anext(events)).json
        for number in range(2):
            hub.open("chat-1")
            open_site.tokens("chat-1", 1, start=number)
            if number == 1:
                hub.publish("chat-1", "human_prompt", APPROVAL)
            await (hub.close("chat-1") if number else hub.fail("chat-1", "no"))
        async for event in events:
            seen.append(event.json)
            if named(seen, "executionEnd") == [{"chatId": "chat-1"}] * 2:
                break
    assert ready["event"] == "listenerReady"
    assert ready["data"]["listenerId"]
    assert ready["data"]["replicaId"]
    assert named(seen, "start") == ["t0 ", "t1 "]
    assert named(seen, "agentFlowEvent", "error", "executionEnd")[:4] == [
        *("INPROGRESS", "ERROR", "no", {"chatId": "chat-1"})
    ]
    assert not named(seen, "end")


# ---------------------------------------------------------------- the stream around it
@pytest.mark.parametrize("query", ["batch=true", "named=true", "delivery=at-least-once"])
async def test_options_that_do_not_go_with_it(open_site: Site, http: httpx2.AsyncClient, query: str) -> None:
    answer = await http.get(f"{open_site.url}/executions/chat-1/stream?dialect=flowise&{query}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 4000)
    assert query.partition("=")[0] in answer.json()["error"]["message"]


async def test_other_dialects_are_refused(open_site: Site, http: httpx2.AsyncClient) -> None:
    answer = await http.get(f"{open_site.url}/executions/chat-1/stream?dialect=other")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 4000)
    assert "'flowise'" in answer.json()["error"]["message"]


async def test_a_response_of_ones_own() -> None:
    hub = StreamHub(StreamingSettings())
    flowise: DialectName = "flowise"
    with pytest.raises(BadRequestError, match="batch does not go with dialect=flowise"):
        sse_response(hub, "chat-1", dialect=flowise, batch=True)
    sse_response(hub, "chat-1", dialect=flowise, named=False)
    await hub.aclose()


async def test_the_first_data_is_an_event(http: httpx2.AsyncClient) -> None:
    with site(initial_data=lambda _: {"history": []}) as place:
        place.hub.open("chat-1")
        await place.hub.close("chat-1")
        assert (await read(http, place))[0] == {"event": "initial", "data": {"history": []}}


async def test_a_reader_in_the_middle_gets_a_start_of_its_own(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.tokens("chat-1", 4)
    await open_site.hub.close("chat-1")
    state = await open_site.hub.describe("chat-1")
    assert state is not None
    for query in (f"&after={state.epoch}:3", "&events=token,status&after=" + f"{state.epoch}:3"):
        frames = await read(http, open_site, query)
        assert named(frames, "start", "token") == ["t2 ", "t2 ", "t3 "]
    answer = await http.get(
        f"{open_site.url}/executions/chat-1/stream?dialect=flowise", headers={"Last-Event-ID": f"{state.epoch}:4"}
    )
    assert named(frames_of(answer.text), "token") == ["t3 "]


async def test_readers_of_all_kinds_side_by_side(open_site: Site, http: httpx2.AsyncClient) -> None:
    address = f"{open_site.url}/executions/chat-1/stream"
    native = asyncio.create_task(http.get(address))
    flowise = [asyncio.create_task(read(http, open_site)) for _ in range(5)]
    for index in range(200):
        open_site.tokens("chat-1", 1, start=index)
        if index % 50 == 0:
            flowise.append(asyncio.create_task(read(http, open_site)))
            await asyncio.sleep(0.01)
    await open_site.hub.close("chat-1")
    text = "".join(f"t{index} " for index in range(200))
    for frames in await asyncio.gather(*flowise):
        assert "".join(named(frames, "token")) == text
        assert named(frames, "start") == ["t0 "]
        assert frames[-1] == DONE
    assert (await native).text.count("event: token\n") == 200


def test_a_merged_token_is_one_token() -> None:
    merged = merge([record(number, "token", {"content": f"t{number} "}) for number in (1, 2, 3)], atomic=False)
    frames = frames_of(dialect().encode("chat-1", merged).wire.decode())
    assert named(frames, "start", "token") == ["t1 t2 t3 ", "t1 t2 t3 "]


def test_the_option_is_described() -> None:
    parameters = openapi_schema()["paths"]["/executions/{execution_id}/stream"]["get"]["parameters"]
    schemas = {each["name"]: each["schema"] for each in parameters}
    assert schemas["dialect"] == {"const": "flowise", "type": "string"}
    assert schemas["named"]["type"] == "boolean"


def test_trouble_that_passes_is_not_told() -> None:
    """To Flowise's clients an error is a failure of the run."""
    assert not dialect().encode_event("error", {"code": 5030, "message": "the log cannot be reached"})
    assert frames_of(dialect().encode_event("gap", {"from": 1, "to": 2}).decode()) == [
        {"event": "gap", "data": {"from": 1, "to": 2}}
    ]


class Spy(FrameCache):
    """Notes for whom frames are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[FrameEncoder] = []

    def frames(
        self, execution_id: str, records: Sequence[StoredUpdate], filter: UpdateFilter, encoder: FrameEncoder
    ) -> Iterator[Frames]:
        self.asked.append(encoder)
        return super().frames(execution_id, records, filter, encoder)


async def test_the_frames_that_others_share_are_left_alone(open_site: Site, http: httpx2.AsyncClient) -> None:
    context = HttpContext.for_hub(open_site.hub)
    context.frames = spy = Spy()
    open_site.tokens("chat-1", 10)
    await open_site.hub.close("chat-1")
    await read(http, open_site)
    assert not spy.asked
    await http.get(f"{open_site.url}/executions/chat-1/stream")
    assert spy.asked


def test_frames_of_one_reader_are_kept_for_nobody() -> None:
    flowise, chunks = dialect(), FrameCache(max_bytes=0)
    records = [record(number, "token", {"content": "x"}) for number in (1, 2)]
    first, again = (b"".join(each.wire for each in chunks.frames("chat-1", records, ALL, flowise)) for _ in range(2))
    assert b'"start"' in first
    assert b'"start"' not in again, "it was made anew, by what the reader has been told"
    assert not [value for value in vars(chunks).values() if isinstance(value, dict) and value]


async def test_what_is_redacted_stays_so(http: httpx2.AsyncClient) -> None:
    def redact(name: str, data: Any) -> Any:
        return {**data, "result": "withheld"} if name == "node_complete" else data

    with site(redact=redact) as place:
        place.hub.publish("chat-1", "node_complete", {**NODE, "result": "secret"})
        await place.hub.close("chat-1")
        frames = await read(http, place)
    assert "secret" not in json.dumps(frames)
    assert named(frames, "agentFlowExecutedData")[0][0]["data"]["output"] == "withheld"


# ---------------------------------------------------------------- whatever is said
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WORDS = ("content", "node_id", "tool", "tool_call_id", "prompt_id", "prompt", "type", "choices", "error", "status")
DATA = JSON | st.dictionaries(st.sampled_from(WORDS), JSON | st.sampled_from(["n", "resumed", "choice"]), max_size=5)
TYPES = st.sampled_from([*map(str, StreamEventType), "start", "end", "abort", "executionEnd"]) | st.text(min_size=1)


@settings(max_examples=300 if os.environ.get("CI") else 100, deadline=None)
@given(
    updates=st.lists(st.tuples(TYPES, DATA), max_size=20),
    cuts=st.sets(st.integers(0, 20)),
    extra=st.booleans(),
    leaves=st.booleans(),
)
def test_whatever_is_said_can_be_read(updates: list[Update], cuts: set[int], extra: bool, leaves: bool) -> None:
    flowise = dialect()
    scope = Scope(node_id="n", extra={"own": 1} if extra else None)
    wire = flowise.before_stream(500, {})
    for number, update in enumerate(updates):
        wire += flowise.encode("chat-1", [record(number + 1, *update, at=float(number), scope=scope)]).wire
        if number in cuts:
            wire += flowise.caught_up()
            if flowise.is_complete:
                break
    wire += flowise.on_restart("timeout", 500) if leaves else flowise.on_end(None, run_is_over=not flowise.is_complete)
    frames = frames_of(wire.decode())
    names = [frame["event"] for frame in frames]
    assert all(frame.keys() - {"duration"} == {"event", "data"} for frame in frames)
    assert names.count("end") == 1
    assert frames[-1] == DONE
    spoken = [name for name in names if name in {"start", "token", "thinking"}]
    assert spoken.count("start") == (1 if spoken else 0)
    assert not spoken or spoken[0] == "start"
    assert all(isinstance(data, str) for data in named(frames, "start", "token", "thinking", "error"))
    assert all(isinstance(data, list) for data in named(frames, "sourceDocuments", "usedTools", "artifacts"))
    if "metadata" in names and not leaves:
        last = len(names) - 1 - names[::-1].index("metadata")
        assert not {"start", "token", "thinking"} & set(names[last:])


def test_a_node_from_the_cache_begins_and_ends_at_once() -> None:
    frames = told(
        [("node_start", {"node_id": "plan"}), ("node_complete", {"node_id": "plan"}), ("node_cached", CACHED)]
    )
    assert [(flow["nodeId"], flow["status"]) for flow in named(frames, "nextAgentFlow")] == [
        ("plan", "INPROGRESS"),
        ("plan", "FINISHED"),
        ("load", "INPROGRESS"),
        ("load", "FINISHED"),
    ]
    last = named(frames, "agentFlowExecutedData")[-1][-1]
    assert (last["nodeId"], last["previousNodeIds"], last["data"]["output"]) == ("load", ["plan"], {"rows": 3})


def test_a_tool_that_waits_for_a_human_is_neither_open_nor_used() -> None:
    call = {"tool": "send", "tool_call_id": "c1"}
    paused = {**call, "interrupts": [{"id": "i1", "value": "Send it?"}]}
    frames = told([("tool_start", call), ("tool_interrupted", paused), ("tool_start", {**call, "tool_call_id": "c2"})])
    assert named(frames, "usedTools") == []
    assert named(frames, "tool_interrupted") == [paused]
    assert [len(open_now) for open_now in named(frames, "calledTools")] == [1, 1]


CACHED = {"node_id": "load", "node_name": "Load", "result": {"rows": 3}}
