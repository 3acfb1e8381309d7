"""Flowise's own clients read our streams: its SDK, and the library its chat window reads with."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Response

from lg_streaming import StreamingSettings, sse_response
from lg_streaming.hub import StreamHub
from tests.gateway.sse import Event, EventSource
from tests.support.node import node_process
from tests.support.server import Server, serve

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "07_flowise.py"
ANSWER = "Rain is water that falls from clouds."
CLIENTS = pytest.mark.parametrize("client", ["sdk", "fetch"])

Frame = dict[str, Any]


@pytest.fixture
def example() -> Generator[Server]:
    """The example's application, a real graph behind it."""
    spec = importlib.util.spec_from_file_location("example_flowise", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with serve(module.app) as server:
        yield server
    del sys.modules[spec.name]


async def ask(server: Server, client: str, **body: Any) -> list[Any]:
    """The events, or the one answer, that a client of Flowise's got."""
    got: list[Any] = []
    async with node_process("flowise.mjs", client, server.url, "write", json.dumps(body)) as node:
        while (line := await node.next(timeout=20))["type"] != "closed":
            got.append(line[line["type"]])
    return got


def named(frames: list[Frame], *names: str) -> list[Any]:
    return [frame["data"] for frame in frames if frame["event"] in names]


@CLIENTS
@pytest.mark.row("FLOW-24", "FLOW-25", "FLOW-26", "FLOW-28", "FLOW-29", "FLOW-34", "FLOW-D15")
async def test_a_prediction_is_streamed(example: Server, client: str) -> None:
    frames = await ask(example, client, question="What is rain?", streaming=True, chatId="chat-1")
    names = [frame["event"] for frame in frames]
    assert "".join(named(frames, "token")) == ANSWER + "Sent."
    assert named(frames, "start") == [named(frames, "token")[0]]
    assert names.index("start") < names.index("token")
    assert named(frames, "agentFlowEvent") == ["INPROGRESS", "FINISHED"]
    assert [(each["nodeId"], each["status"]) for each in named(frames, "nextAgentFlow")] == [
        *(("write", "INPROGRESS"), ("write", "FINISHED"), ("approve", "INPROGRESS"), ("approve", "FINISHED"))
    ]
    assert [each["previousNodeIds"] for each in named(frames, "agentFlowExecutedData")[-1]] == [[], ["write"]]
    (metadata,) = named(frames, "metadata")
    assert (metadata["chatId"], metadata["sessionId"], metadata["question"]) == ("chat-1", "chat-1", "What is rain?")
    assert names[-2:] == ["metadata", "end"]
    assert names.count("end") == 1
    # The same chat again: its stream begins where the last one ended.
    again = await ask(example, client, question="And snow?", streaming=True, chatId="chat-1")
    assert "".join(named(again, "token")) == ANSWER + "Sent."
    assert named(again, "metadata")[0]["question"] == "And snow?"


@CLIENTS
@pytest.mark.row("FLOW-32", "FLOW-33")
@pytest.mark.parametrize(("choice", "answer"), [("proceed", "Sent."), ("reject", "It was not sent.")])
async def test_a_human_approves(example: Server, client: str, choice: str, answer: str) -> None:
    chat = {"chatId": "chat-1", "streaming": True}
    frames = await ask(example, client, question="approve: what is rain?", **chat)
    (action,) = named(frames, "action")
    assert [frame["event"] for frame in frames[-4:]] == ["agentFlowEvent", "action", "metadata", "end"]
    assert named(frames, "agentFlowEvent") == ["INPROGRESS", "STOPPED"]
    assert "".join(named(frames, "token")) == f"{ANSWER}\n\nShall it be sent?"
    human = {"type": choice, "startNodeId": action["data"]["nodeId"], "feedback": ""}
    assert human["startNodeId"] == "approve"
    rest = await ask(example, client, question="", humanInput=human, **chat)
    assert named(rest, "agentFlowEvent") == ["INPROGRESS", "FINISHED"]
    assert named(rest, "start", "token") == [answer, answer]
    assert rest[-1] == {"event": "end", "data": "[DONE]"}


async def test_without_streaming_there_is_one_answer(example: Server) -> None:
    (answer,) = await ask(example, "sdk", question="What is rain?", overrideConfig={"sessionId": "s1"})
    message_id = answer.pop("chatMessageId")
    assert len(message_id) == 36
    assert answer == {"text": ANSWER + "Sent.", "question": "What is rain?", "chatId": "s1", "sessionId": "s1"}


@CLIENTS
async def test_clients_pass_over_heartbeats_and_hear_of_failures(client: str) -> None:
    """The chat window's library takes an empty line for a message, whose data it then cannot read."""
    hub = StreamHub(StreamingSettings.model_validate({"gateway": {"heartbeat_interval": 0.02}}))
    app = FastAPI()

    @app.get("/api/v1/chatflows-streaming/slow")
    async def streams() -> dict[str, bool]:
        return {"isStreaming": True}

    @app.api_route("/api/v1/prediction/slow", methods=["GET", "POST"])
    async def predict() -> Response:
        return sse_response(hub, "chat-1", dialect="flowise")

    hub.publish("chat-1", "token", {"content": "a"})
    body = json.dumps({"question": "", "streaming": True})
    with serve(app, lifespan="off") as server:
        async with node_process("flowise.mjs", client, server.url, "slow", body) as node, httpx2.AsyncClient() as http:
            heard = [(await node.next())["event"]["event"] for _ in range(3)]
            assert heard == ["agentFlowEvent", "start", "token"]
            watching = EventSource(http, f"{server.url}/api/v1/prediction/slow")
            async with watching.open() as events:
                rest = asyncio.create_task(_all(events))
                while len(watching.comments) < 5:  # both are sent them
                    await asyncio.sleep(0.01)
                await hub.fail("chat-1", ValueError("no more rain"))
                await rest
            frames = [(await node.next())["event"] for _ in range(3)]
            assert named(frames, "error", "end") == ["no more rain", "[DONE]"]
            assert (await node.next())["type"] == "closed"
    await hub.aclose()


async def _all(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]
