"""Answers over every transport, by official clients, with the subject of who answered."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, cast

import httpx2
import orjson
import pytest
import socketio
from fastapi import FastAPI
from websockets.asyncio.client import connect

from lg_streaming import StreamingModule
from lg_streaming.client import SocketIOClient, SSEClient
from lg_streaming.errors import StreamingError
from tests.gateway.tokens import SECRET, token
from tests.runs.people import asked, branches, data_of
from tests.support.server import Server, serve

TOKEN = token(sub="bob", control=["**"], executions=["**"])
AUTH = {"Authorization": f"Bearer {TOKEN}"}


def anybody(*_: Any) -> bool:
    return True


@dataclass
class Place:
    server: Server
    streaming: StreamingModule


@pytest.fixture(scope="module")
def place() -> Generator[Place]:
    app = FastAPI()
    streaming = StreamingModule({"auth": {"secret": SECRET}}, authorize=anybody)
    streaming.install(app)
    with serve(app) as server:
        yield Place(server, streaming)


Respond = Callable[[str, str, Any], Awaitable[dict[str, Any]]]
"""`respond(execution_id, prompt_id, response)`: the answer, or the error as an object."""


async def over_rest(server: Server) -> AsyncGenerator[Respond]:
    async with httpx2.AsyncClient(headers=AUTH, timeout=10) as http:

        async def respond(execution_id: str, prompt_id: str, response: Any) -> dict[str, Any]:
            body = {"prompt_id": prompt_id, "response": response}
            answer = (await http.post(f"{server.url}/executions/{execution_id}/responses", json=body)).json()
            return answer.get("error", answer)

        yield respond


async def over_socketio(server: Server) -> AsyncGenerator[Respond]:
    client = socketio.AsyncClient()
    await client.connect(server.url, auth={"token": TOKEN}, transports=["websocket"])

    async def respond(execution_id: str, prompt_id: str, response: Any) -> dict[str, Any]:
        message = {"execution_id": execution_id, "prompt_id": prompt_id, "response": response}
        answer = cast("dict[str, Any]", await client.call("respond", message))
        return answer.get("error", answer)

    yield respond
    await client.disconnect()


async def over_websocket(server: Server) -> AsyncGenerator[Respond]:
    async with connect(f"{server.ws_url}/ws", additional_headers=AUTH) as socket:

        async def respond(execution_id: str, prompt_id: str, response: Any) -> dict[str, Any]:
            payload = {"execution_id": execution_id, "prompt_id": prompt_id, "response": response}
            await socket.send(orjson.dumps({"type": "respond", "payload": payload, "id": 7}).decode())
            while (answer := orjson.loads(await socket.recv())).get("id") != 7:
                pass
            found = answer.get("payload", answer)
            return found.get("error", found)

        yield respond


def over_client(kind: Any) -> Callable[[Server], AsyncGenerator[Respond]]:
    async def over(server: Server) -> AsyncGenerator[Respond]:
        async with kind(server.url, token=TOKEN) as client:

            async def respond(execution_id: str, prompt_id: str, response: Any) -> dict[str, Any]:
                try:
                    await client.respond(execution_id, prompt_id, response)
                except StreamingError as error:
                    return error.to_dict()
                return {"ok": True}

            yield respond

    return over


WAYS: dict[str, Callable[[Server], AsyncGenerator[Respond]]] = {
    "REST": over_rest,
    "Socket.IO": over_socketio,
    "WebSocket": over_websocket,
    "SSEClient": over_client(SSEClient),
    "SocketIOClient": over_client(SocketIOClient),
}


@pytest.mark.row("HIVE-75")
@pytest.mark.row("FLOW-33")
@pytest.mark.parametrize("way", WAYS)
async def test_people_answer_over_every_transport(place: Place, way: str) -> None:
    streaming, execution_id = place.streaming, f"run-{way}"
    choice = {"question": "Which?", "type": "choice", "choices": ["a", "b"]}
    run = await streaming.runs.start(branches(choice, "Why?"), {}, execution_id=execution_id)
    prompts = {each.data["prompt"]: each.data["prompt_id"] for each in await asked(streaming, execution_id)}
    async for respond in WAYS[way](place.server):
        wrong = await respond(execution_id, prompts["Which?"], "c")
        assert wrong["code"] == 4000, wrong
        assert "one of 'a', 'b'" in wrong["message"]
        assert wrong["details"]["allowed"] == ["a", "b"]
        assert (await respond(execution_id, prompts["Why?"], {"because": 1}))["ok"]
        assert (await respond(execution_id, prompts["Why?"], "again"))["code"] == 4090
        assert (await respond(execution_id, prompts["Which?"], "b"))["ok"]
    assert [answer for _, answer in (await run)["answers"]] == ["b", {"because": 1}]
    responses = await data_of(streaming, "human_response", execution_id)
    assert {each["responded_by"] for each in responses} == {"bob"}
