"""Rights, restarts, several processes, gaps, cuts, and requests that the stock client does not send."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from lg_streaming.events import Scope
from tests.support.redis_server import RedisServer
from tests.wires.ai_sdk.graphs import Place, place
from tests.wires.ai_sdk.reader import Reader, chunks_of, parse

SECRET = "a secret of at least thirty-two bytes"
ids: Iterator[str] = (f"server-{number}" for number in range(10_000))


def bearer(subject: str, *, lasts: float = 600, **claims: Any) -> dict[str, str]:
    token = jwt.encode({"sub": subject, "exp": time.time() + lasts, **claims}, SECRET, "HS256")
    return {"Authorization": f"Bearer {token}"}


def starter(subject: str, **options: Any) -> dict[str, str]:
    grant = {"actions": ["start"], "graphs": ["*"], "executions": [f"{subject}/*"]}
    return bearer(subject, lg_streaming=[grant], **options)


def question(text: str, id: str | None = None) -> dict[str, Any]:
    return {"id": id or f"u-{text}", "role": "user", "parts": [{"type": "text", "text": text}]}


class Chat:
    """A chat, as a page has it."""

    def __init__(
        self, it: Place, graph: str = "echo", *, id: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.it = it
        self.id = id or next(ids)
        self.graph = graph
        self.headers = headers or {}
        self.url = f"{it.url}/api/chat"
        self.messages: list[dict[str, Any]] = []
        self.message = Reader()

    def body(self, **more: Any) -> dict[str, Any]:
        return {"id": self.id, "graph": self.graph, "trigger": "submit-message", "messages": self.messages, **more}

    async def post(self, **more: Any) -> httpx2.Response:
        async with httpx2.AsyncClient(timeout=20) as http:
            return await http.post(self.url, json=self.body(**more), headers=self.headers)

    async def get(self, method: str = "GET") -> httpx2.Response:
        async with httpx2.AsyncClient(timeout=20) as http:
            return await http.request(method, f"{self.url}/{self.id}/stream", headers=self.headers)

    async def ask(self, text: str = "one") -> Reader:
        """Send a question, and read the whole answer."""
        self.messages.append(question(text))
        answer = await self.post()
        assert answer.status_code == 200, answer.text
        self.message = Reader().read(chunks_of(answer.content))
        return self.message

    async def answer(self, parts: list[dict[str, Any]]) -> Reader:
        """Send the message back with answers in it, and read the rest of it."""
        assert self.message.message_id is not None
        answer = await self.post(messages=[*self.messages, *parts], messageId=self.message.message_id)
        assert answer.status_code == 200, answer.text
        return self.message.read(chunks_of(answer.content))

    @contextlib.asynccontextmanager
    async def begun(self, text: str = "one") -> AsyncGenerator["Streaming"]:
        """Send a question, and wait for the first text."""
        self.messages.append(question(text))
        async with (
            httpx2.AsyncClient(timeout=20) as http,
            http.stream("POST", self.url, json=self.body(), headers=self.headers) as answer,
        ):
            assert answer.status_code == 200
            stream = Streaming(answer)
            await stream.until("text-delta")
            yield stream


class Streaming:
    """A stream that is read in parts."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._parts = answer.aiter_text()
        self.text = ""

    async def until(self, words: str) -> None:
        while words not in self.text:
            self.text += await anext(self._parts)

    async def rest(self) -> str:
        async for part in self._parts:
            self.text += part
        return self.text


# ---------------------------------------------------------------- rights
@pytest.fixture(scope="module")
def guarded() -> Generator[Place]:
    with place(auth={"secret": SECRET}, gateway={"cors_origins": ["https://app.example.com"]}) as it:
        yield it


async def test_who_may_ask(guarded: Place) -> None:
    nobody = await Chat(guarded, headers={}).post(messages=[question("one")])
    assert nobody.status_code == 401
    assert nobody.headers["content-type"].startswith("text/plain")
    assert "token" in nobody.text
    denied = await Chat(guarded, id="bob/1", headers=bearer("bob")).post(messages=[question("one")])
    assert denied.status_code == 403
    chosen = await Chat(guarded, id="alice/1", headers=starter("bob")).post(messages=[question("one")])
    assert chosen.status_code == 403
    assert (await Chat(guarded, id="bob/1", headers=starter("bob")).ask()).text == "1 questions, the last is one."


async def test_nothing_of_another_callers_chat_leaks(guarded: Place) -> None:
    alice = Chat(guarded, "gated", id="alice/gated", headers=starter("alice"))
    bob = starter("bob")
    async with alice.begun() as stream:
        known, unknown = (Chat(guarded, "gated", id=f"alice/{name}", headers=bob) for name in ("gated", "unknown"))
        for method in ("GET", "HEAD"):
            found = [await each.get(method) for each in (known, unknown)]
            assert [(each.status_code, each.text) for each in found] == [(204, ""), (204, "")]
        answered: dict[str, Any] = {"id": "m", "role": "assistant", "parts": []}
        for messages in ([question("one")], [answered]):
            refused = [await each.post(messages=messages) for each in (known, unknown)]
            assert {each.status_code for each in refused} == {403}
            assert len({each.text for each in refused}) == 1
        assert (await alice.get("HEAD")).status_code == 200
        await drive(guarded, alice.id, "open")
        assert Reader().read(chunks_of(await stream.rest())).text == "1 questions, the last is one."


async def test_only_the_owner_answers(guarded: Place) -> None:
    alice = Chat(guarded, "confirm", id="alice/confirm", headers=starter("alice"))
    waiting = await alice.ask()
    mallory = Chat(guarded, "confirm", id=alice.id, headers=starter("mallory"))
    refused = await mallory.post(messages=[*alice.messages, waiting.message], messageId=waiting.message_id)
    assert refused.status_code == 403
    assert "True" in (await alice.answer(waiting.approve(True))).text


async def test_the_stream_of_an_expired_token_is_cut(guarded: Place) -> None:
    chat = Chat(guarded, "gated", id="alice/expired", headers=starter("alice", lasts=-4))  # the settings forgive 5 s
    async with chat.begun() as stream:
        with pytest.raises(httpx2.RemoteProtocolError):
            await stream.rest()
    await drive(guarded, chat.id, "open")


async def test_a_page_of_another_origin(guarded: Place) -> None:
    headers = {"Origin": "https://app.example.com", **starter("alice")}
    answer = await Chat(guarded, id="alice/cors", headers=headers).post(messages=[question("one")])
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert {"x-resumable-stream-id", "x-vercel-ai-ui-message-stream"} <= set(exposed.split(", "))
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    other = await Chat(guarded, headers={**headers, "Origin": "https://evil.example"}).post(messages=[question("one")])
    assert other.status_code == 403
    async with httpx2.AsyncClient() as http:
        asked = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
        preflight = await http.options(
            f"{guarded.url}/api/chat", headers={**asked, "Access-Control-Request-Headers": "content-type"}
        )
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]


# ---------------------------------------------------------------- restarts, processes
@pytest.mark.parametrize("graph", ["approve-batch", "confirm", "send", "location"])
async def test_an_answer_after_a_restart(graph: str, tmp_path: Path) -> None:
    database = str(tmp_path / "checkpoints.db")
    with place(database) as before:
        chat = Chat(before, graph)
        waiting = await chat.ask()
        assert waiting.finish_reason == "tool-calls"
    with place(database) as after:
        chat.it, chat.url = after, f"{after.url}/api/chat"
        assert (await chat.get()).status_code == 204
        if graph == "location":
            parts = waiting.output(waiting.calls[0]["toolCallId"], "Oslo")
        else:
            verdicts = [True] if graph != "approve-batch" else [True, False]
            parts = waiting.approve(*verdicts)
        message = await chat.answer(parts)
    assert message.finish_reason == "stop"
    assert {each["state"] for each in message.calls} <= {"output-available", "output-denied"}
    if graph == "approve-batch":
        assert [each["state"] for each in message.calls] == ["output-available", "output-denied"]
    assert message.text != waiting.text or "Done" in message.text or "True" in message.text


@pytest.fixture
def two(shared_redis: RedisServer, redis_prefix: str) -> Generator[tuple[Place, Place]]:
    """Two servers on one Redis."""
    settings: dict[str, Any] = {"log": shared_redis.url, "redis": {"prefix": redis_prefix}}
    with place(**settings) as one, place(**settings) as other:
        yield one, other


async def test_two_processes_share_a_chat(two: tuple[Place, Place]) -> None:
    one, other = two
    chat = Chat(one, "gated")
    async with chat.begun() as stream:
        second = Chat(other, "gated", id=chat.id)
        resumed = asyncio.create_task(second.get())
        async with asyncio.timeout(20):
            while not other.module.gateway.connections:
                await asyncio.sleep(0.01)
        await drive(one, chat.id, "open")
        body, again = await stream.rest(), await resumed
    assert Reader().read(chunks_of(body)).text == "1 questions, the last is one."
    assert Reader().read(chunks_of(again.content)).parts == Reader().read(chunks_of(body)).parts


async def test_an_answer_through_another_process(two: tuple[Place, Place]) -> None:
    one, other = two
    chat = Chat(one, "approve-batch")
    waiting = await chat.ask()
    chat.it, chat.url = other, f"{other.url}/api/chat"
    message = await chat.answer(waiting.approve(True, False, reason="not that"))
    assert [each["state"] for each in message.calls] == ["output-available", "output-denied"]
    assert "not that" in message.text


async def drive(it: Place, chat: str, what: str) -> None:
    async with httpx2.AsyncClient() as http:
        assert (await http.post(f"{it.url}/drive", json={"id": chat, "do": what})).status_code == 200


# ---------------------------------------------------------------- cuts, gaps
@pytest.mark.parametrize("why", ["shutdown", "duration"])
async def test_a_cut_is_no_end(why: str) -> None:
    settings: dict[str, Any] = {"gateway": {"max_stream_duration": 0.3}} if why == "duration" else {}
    with place(**settings) as it:
        async with Chat(it, "gated").begun() as stream:
            stop = asyncio.to_thread(it.server.stop) if why == "shutdown" else asyncio.sleep(0)
            stopping = asyncio.create_task(stop)
            with pytest.raises(httpx2.RemoteProtocolError):
                await stream.rest()
            await stopping
    assert "[DONE]" not in stream.text
    assert '"type":"finish"' not in stream.text


async def test_a_run_that_began_elsewhere_and_has_lost_its_beginning() -> None:
    with place(retention={"max_updates": 30}) as it:
        hub, chat, scope = it.module.hub, Chat(it), Scope(message_id="m-1")
        hub.open(chat.id)
        for number in range(80):
            hub.publish(chat.id, "token", {"content": f"t{number} ", "index": number}, scope=scope)
        hub.publish(chat.id, "tool_complete", {"tool": "weather", "tool_call_id": "c-1", "output": "rain"})
        reading = asyncio.create_task(chat.get())
        async with asyncio.timeout(20):
            while not it.module.gateway.connections:
                await asyncio.sleep(0.01)
        hub.publish(chat.id, "token", {"content": "the end", "index": 80}, scope=scope)
        await hub.close(chat.id)
        answer = await reading
    message = Reader().read(chunks_of(answer.content))
    assert [each["data"]["reason"] for each in message.parts if each["type"] == "data-gap"]
    assert message.text.endswith("t79 the end")
    assert "t0 " not in message.text
    assert message.calls[0]["output"] == "rain"
    assert message.message_id


async def test_a_page_gets_a_waiting_run_by_option() -> None:
    with place(wires={"ai_sdk_resumes_interrupted": True}) as it:
        chat = Chat(it, "approve-batch")
        waiting = await chat.ask()
        again = Reader().read(chunks_of((await chat.get()).content))
        assert again.parts == waiting.parts
        assert again.message_id == waiting.message_id
        assert "Done" in (await chat.answer(again.approve(True, True))).text


async def test_a_continued_message_is_replayed_from_its_first_run(running: Place) -> None:
    chat = Chat(running, "page-tools-slow")
    waiting = await chat.ask()
    before = len(waiting.parts)
    parts = waiting.output(waiting.calls[0]["toolCallId"], {"city": "Oslo"})
    live = asyncio.create_task(chat.answer(parts))
    async with asyncio.timeout(20):
        while (replay := await chat_text(chat, "Done")) is None:
            await asyncio.sleep(0.01)
    message = await live
    again = Reader().read(chunks_of(replay))
    assert again.message_id == message.message_id
    assert again.text == message.text == 'Let me see. Done: {"city": "Oslo"}.'
    assert len(again.parts) == len(message.parts) > before


async def chat_text(chat: Chat, words: str) -> str | None:
    """Return the replay of a chat, whose gate opens when these words are in it; None before its run has begun."""
    async with httpx2.AsyncClient(timeout=20) as http, http.stream("GET", f"{chat.url}/{chat.id}/stream") as answer:
        if answer.status_code == 204:
            return None
        stream = Streaming(answer)
        await stream.until(words)
        await drive(chat.it, chat.id, "open")
        return await stream.rest()


# ---------------------------------------------------------------- other requests
async def test_the_body_of_the_data_stream_runtime(running: Place) -> None:
    """assistant-ui's other runtime has no ids, no trigger, and messages in the form of models."""
    thread = next(ids)
    texts = [{"type": "text", "text": "one"}]
    messages: list[Any] = [{"role": "user", "content": texts}]
    body: dict[str, Any] = {"graph": "location", "threadId": thread, "messages": messages, "tools": {}}
    async with httpx2.AsyncClient(timeout=20) as http:
        first = Reader().read(chunks_of((await http.post(f"{running.url}/api/chat", json=body)).content))
        call_id = first.calls[0]["toolCallId"]
        assistant: list[Any] = [{"type": "tool-call", "toolCallId": call_id, "toolName": "location", "input": {}}]
        result = {
            "type": "tool-result",
            "toolCallId": call_id,
            "toolName": "location",
            "output": {"type": "text", "value": "Oslo"},
        }
        messages += [{"role": "assistant", "content": assistant}, {"role": "tool", "content": [result]}]
        answer = await http.post(f"{running.url}/api/chat", json=body)
        rest = Reader().read(chunks_of(answer.content))
    assert rest.text == "Done: Oslo."
    assert answer.headers["x-resumable-stream-id"] == thread


async def test_a_route_of_the_application_continues_a_message(running: Place) -> None:
    chat = Chat(running, "confirm")
    message = await chat.ask()
    asked = message.calls[0]["toolCallId"]
    async with httpx2.AsyncClient(timeout=20) as http:
        place_of = f"{running.url}/executions/{chat.id}"
        position = (await http.get(place_of)).json()["position"]
        done = await http.post(f"{place_of}/responses", json={"prompt_id": asked, "response": True})
        assert done.is_success, done.text
        answer = await http.get(f"{running.url}/own/{chat.id}/rest", params={"after": position})
    message.read(chunks_of(answer.content))
    assert "True" in message.text
    assert [each["state"] for each in message.calls] == ["output-available"]


async def test_a_new_chat_gets_an_id(running: Place) -> None:
    answer = await Chat(running).post(id=None, messages=[question("one")])
    message = Reader().read(chunks_of(answer.content))
    assert message.metadata["execution_id"] == answer.headers["x-resumable-stream-id"]


async def test_a_question_that_is_sent_again_replaces_itself(running: Place) -> None:
    chat = Chat(running)
    await chat.ask()
    chat.messages.pop()
    assert (await chat.ask()).text == "1 questions, the last is one."


async def test_a_large_body_is_refused() -> None:
    with place(wires={"body_bytes": 2_000}) as it:
        answer = await Chat(it).post(messages=[question("x" * 3_000)])
        assert answer.status_code == 413
        assert "2000 bytes" in answer.text


async def test_a_quiet_stream_has_comments(running: Place) -> None:
    chat = Chat(running, "gated")
    async with chat.begun() as stream:
        await stream.until(": ping\n\n: ping\n\n")
        await drive(running, chat.id, "open")
        body = await stream.rest()
    assert Reader().read(chunks_of(body)).text == "1 questions, the last is one."
    assert parse(body.removesuffix("data: [DONE]\n\n"))
