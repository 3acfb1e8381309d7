"""Rights, limits, interrupts, cancels, replays, several readers and processes, restarts, and CopilotKit's routes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import jwt
import pytest
from ag_ui.core import Message, RunAgentInput, UserMessage
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from tests.wires.agui.place import Gates, Place, State, chat, place
from tests.wires.agui.rules import checked, events_in

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer

SECRET = "a secret of at least thirty-two bytes"
HELLO = "You said hello, and I heard it well."
GRANT = {"lg_streaming": [{"actions": ["start"], "graphs": ["chat"], "executions": ["*"]}]}


class LastingSaver(InMemorySaver):
    """Stand-in for a checkpointer that outlives the process."""


def bearer(subject: str, **claims: Any) -> dict[str, str]:
    token = jwt.encode({"sub": subject, "exp": time.time() + 600, **claims}, SECRET, "HS256")
    return {"Authorization": f"Bearer {token}"}


def body(thread: str, text: str = "", *, modern: bool = True, **fields: Any) -> dict[str, Any]:
    """A request, made by the protocol's own models."""
    messages: list[Message] = [UserMessage(id=f"u-{text}", content=text)] if text else []
    request = RunAgentInput(
        thread_id=thread, run_id="r-1", state={}, messages=messages, tools=[], context=[], forwarded_props={}
    )
    found = request.model_dump(mode="json", by_alias=True, exclude_none=True) | fields
    return found | ({"protocolVersion": "1.0"} if modern else {})


@asynccontextmanager
async def http() -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=20) as client:
        yield client


async def post(url: str, sent: Any, headers: dict[str, str] | None = None) -> httpx2.Response:
    async with http() as client:
        return await client.post(url, json=sent, headers=headers)


async def events_of(url: str, sent: dict[str, Any], headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The events of a request, which a client of its generation accepts."""
    answer = await post(url, sent, headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return checked(events_in(answer.content), is_modern="protocolVersion" in sent)


class Stream:
    """A stream that is read while it lasts."""

    def __init__(self, lines: AsyncGenerator[str]) -> None:
        self._lines = lines
        self.text = ""

    async def until(self, word: str) -> None:
        async with asyncio.timeout(20):
            while word not in self.text:
                self.text += await anext(self._lines)

    async def rest(self) -> str:
        async with asyncio.timeout(20):
            async for part in self._lines:
                self.text += part
        return self.text

    def events(self, *, modern: bool = True) -> list[dict[str, Any]]:
        return checked(events_in(self.text.encode()), is_modern=modern)


@asynccontextmanager
async def reading(url: str, sent: Any, headers: dict[str, str] | None = None) -> AsyncGenerator[Stream]:
    async with http() as client, client.stream("POST", url, json=sent, headers=headers) as response:
        assert response.status_code == 200
        lines: Any = response.aiter_text()
        yield Stream(lines)


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(each["delta"] for each in events if each["type"] == "TEXT_MESSAGE_CONTENT")


def resume(*answers: Any, status: str = "resolved") -> dict[str, Any]:
    return {"resume": [{"interruptId": id_, "status": status, "payload": value} for id_, value in answers]}


def interrupts(events: list[dict[str, Any]]) -> list[str]:
    assert events[-1]["type"] == "RUN_FINISHED", events[-1]
    return [each["id"] for each in events[-1]["outcome"]["interrupts"]]


# ---------------------------------------------------------------- rights
@pytest.fixture(scope="module")
def guarded() -> Generator[Place]:
    with place(auth={"secret": SECRET}) as it:
        yield it


async def test_a_caller_needs_the_right_to_start(guarded: Place) -> None:
    refused = await post(guarded.url, body("rights", "hello"))
    assert (refused.status_code, refused.json()["error"]) == (401, "unauthorized")
    refused = await post(guarded.url, body("rights", "hello"), bearer("alice"))
    assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
    assert text_of(await events_of(guarded.url, body("rights", "hello"), bearer("alice", **GRANT))) == HELLO


async def test_another_caller_gets_nothing_and_learns_nothing(guarded: Place) -> None:
    alice, bob = bearer("alice", **GRANT), bearer("bob", **GRANT)
    asked = await events_of(guarded.url, body("hers", "ask"), alice)
    assert (await post(guarded.url, body("hers", "hello"), bob)).status_code == 403
    for url, sent in (
        (guarded.url, body("{}", **resume((interrupts(asked)[0], 1)))),
        (f"{guarded.url}/connect", body("{}")),
        (f"{guarded.server.url}/copilotkit/agent/chat/connect", body("{}")),
        (f"{guarded.server.url}/copilotkit/agent/chat/stop/{{}}", {}),
    ):
        answers = []
        for thread in ("hers", "nobodys"):
            named = json.loads(json.dumps(sent).replace('"{}"', f'"{thread}"'))
            answer = await post(url.replace("{}", thread), named, bob)
            answers.append((answer.status_code, answer.text.replace(thread, "-")))
        assert answers[0] == answers[1], url
    assert len(interrupts(await events_of(f"{guarded.url}/connect", body("hers"), alice))) == 1


async def test_a_page_of_another_origin_is_refused(guarded: Place) -> None:
    headers = {**bearer("alice", **GRANT), "Origin": "https://evil.example"}
    assert (await post(guarded.url, body("origin", "hello"), headers)).status_code == 403


@pytest.mark.parametrize(
    ("sent", "word"),
    [
        ([], "JSON object"),
        ({}, "threadId"),
        ({"threadId": "a b"}, "id"),
        ({"threadId": "t", "messages": {}}, "messages"),
        ({"threadId": "t", "messages": [{"role": "king"}]}, "messages[0].role"),
        ({"threadId": "t", "messages": [{"id": 1, "role": "user"}]}, "messages[0].id"),
        ({"threadId": "t", "messages": [{"id": "1", "role": "user", "content": 5}]}, "messages[0].content"),
        ({"threadId": "t", "messages": [{"id": "1", "role": "tool", "content": "x"}]}, "toolCallId"),
        ({"threadId": "t", "messages": [{"id": "1", "role": "user", "content": [{"type": "odd"}]}]}, "odd"),
        ({"threadId": "t", "resume": [{"status": "resolved"}]}, "resume[0].interruptId"),
        ({"threadId": "t", "resume": [{"interruptId": "i", "status": "maybe"}]}, "resume[0].status"),
        ({"threadId": "t", "runId": 7}, "runId"),
    ],
)
async def test_a_bad_body_is_named(running: Place, sent: Any, word: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = await post(running.url, sent)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert word in answer.json()["message"]
    assert not [each for each in caplog.records if each.exc_info]


# ---------------------------------------------------------------- ends
@pytest.mark.parametrize(("modern", "end"), [(True, "RUN_FINISHED"), (False, "RUN_ERROR")], ids=["new", "old"])
async def test_a_cancelled_run_ends_as_its_client_can_read(running: Place, modern: bool, end: str) -> None:
    thread = f"cancelled-{modern}"
    async with reading(running.url, body(thread, f"slow {thread}", modern=modern)) as stream:
        await stream.until("TEXT_MESSAGE_CONTENT")
        await running.module.hub.cancel(thread)
        await stream.rest()
    last = stream.events(modern=modern)[-1]
    assert last["type"] == end
    assert last["outcome"] == {"type": "cancelled"} if modern else last["code"] == "cancelled"


async def test_a_client_that_leaves_cancels_its_run_unless_a_setting_says_otherwise(running: Place) -> None:
    async with reading(running.url, body("leaves", "slow leaves")) as stream:
        await stream.until("TEXT_MESSAGE_CONTENT")
    assert await ended(running, "leaves") == "cancelled"
    with place(wires={"ag_ui_on_disconnect": "continue"}) as lasting:
        async with reading(lasting.url, body("stays", "slow stays")) as stream:
            await stream.until("TEXT_MESSAGE_CONTENT")
        async with reading(f"{lasting.url}/connect", body("stays")) as again:
            await again.until("TEXT_MESSAGE_CONTENT")
            await post(f"{lasting.server.url}/drive", {"do": "open", "gate": "stays"})
            await again.rest()
        assert text_of(again.events()) == "One two three four."


async def ended(it: Place, thread: str) -> str:
    answer = await post(f"{it.server.url}/drive", {"do": "ended", "thread": thread})
    return str(answer.json()["state"])


async def test_a_server_that_shuts_down_says_so() -> None:
    with place(runs={"shutdown_grace": 0}) as it:
        async with reading(it.url, body("stop", "slow stop")) as stream:
            await stream.until("TEXT_MESSAGE_CONTENT")
            await asyncio.to_thread(it.server.stop)
            await stream.rest()
        last = stream.events()[-1]
        assert (last["type"], last["code"]) == ("RUN_ERROR", "server_restart")


async def test_a_quiet_stream_has_comments() -> None:
    with place(gateway={"heartbeat_interval": 0.05}) as it:
        async with reading(it.url, body("quiet", "slow quiet")) as stream:
            await stream.until("TEXT_MESSAGE_CONTENT")
            await stream.until("\n:\n\n")
            await post(f"{it.server.url}/drive", {"do": "open", "gate": "quiet"})
            await stream.rest()
        assert text_of(stream.events()) == "One two three four."


# ---------------------------------------------------------------- interrupts
async def test_a_question_closes_calls_without_a_result(running: Place) -> None:
    first = await events_of(running.url, body("unanswered", "page"))
    shown = next(each["messages"] for each in first if each["type"] == "MESSAGES_SNAPSHOT")
    again = {"id": "u-2", "role": "user", "content": "never mind"}
    events = await events_of(running.url, body("unanswered", messages=[*shown, again]))
    results = [each["toolCallId"] for each in events if each["type"] == "TOOL_CALL_RESULT"]
    assert results == [shown[-1]["toolCalls"][0]["id"]]
    after = next(each["messages"] for each in events if each["type"] == "MESSAGES_SNAPSHOT")
    assert [each["role"] for each in after] == ["user", "assistant", "tool", "user", "assistant"]
    assert "no result" in after[2]["error"]


async def test_answers_to_some_of_the_interrupts_leave_the_others_open(running: Place) -> None:
    asked = await events_of(running.url, body("some", "ask twice"))
    first, second = interrupts(asked)
    left = await events_of(running.url, body("some", **resume((first, "a"))))
    assert interrupts(left) == [second]
    done = await events_of(running.url, body("some", **resume((first, "b"), (second, "c"))))
    assert sorted(text_of(done).split(".")) == ["", "first: 'a'", "second: 'c'"]
    again = await post(running.url, body("some", **resume((first, "d"))))
    assert (again.status_code, again.json()["error"]) == (409, "no_such_prompt")


async def test_the_older_way_answers_the_first_or_by_id(running: Place) -> None:
    def command(value: Any) -> dict[str, Any]:
        return {"forwardedProps": {"command": {"resume": value}}}

    first, second = interrupts(await events_of(running.url, body("older", "ask twice")))
    assert interrupts(await events_of(running.url, body("older", **command(0)))) == [second]
    done = await events_of(running.url, body("older", **command({second: ""})))
    assert sorted(text_of(done).split(".")) == ["", "first: 0", "second: ''"]
    assert first != second


async def test_interrupts_as_custom_events_and_cancelled_ones_that_end_the_run() -> None:
    with place(wires={"ag_ui_custom_interrupts": True, "ag_ui_on_cancelled": "cancel_run"}) as it:
        events = await events_of(it.url, body("custom", "ask"))
        custom = [each["value"] for each in events if each["type"] == "CUSTOM" and each["name"] == "on_interrupt"]
        assert [json.loads(each) for each in custom] == [{"question": "Go on?"}]
        done = await events_of(it.url, body("custom", **resume((interrupts(events)[0], None), status="cancelled")))
        assert done[-1]["outcome"] == {"type": "cancelled"}


async def test_an_interrupt_is_answered_after_a_restart() -> None:
    saver = LastingSaver()
    with place(lambda gates: chat(gates, saver)) as before:
        asked = await events_of(before.url, body("restart", "ask"))
    with place(lambda gates: chat(gates, saver)) as after:
        again = await events_of(f"{after.url}/connect", body("restart"))
        assert interrupts(again) == interrupts(asked)
        done = await events_of(after.url, body("restart", **resume((interrupts(asked)[0], "yes"))))
        assert text_of(done) == "You answered 'yes'."
        assert [each["content"] for each in done[-2]["messages"]] == ["ask", "You answered 'yes'."]


# ---------------------------------------------------------------- replays
def two_writers(_: Gates) -> Any:
    """A graph of two nodes, each of which writes a message without a model."""

    async def write(state: State) -> dict[str, Any]:
        return {"messages": [AIMessage(f"There were {len(state['messages'])} messages.")]}

    builder = StateGraph(State)
    builder.add_node("first", write)
    builder.add_node("second", write)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    return builder.compile(checkpointer=InMemorySaver())


async def test_a_message_that_a_node_wrote_ends_with_the_node() -> None:
    with place(two_writers) as it:
        events = [each["type"] for each in await events_of(it.url, body("written", "hello"))]
    order = [each for each in events if each in {"TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "STEP_FINISHED"}]
    assert order == ["TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "STEP_FINISHED"] * 2


async def test_two_readers_get_equal_events(running: Place) -> None:
    connect = f"{running.url}/connect"
    async with reading(running.url, body("equal", "slow equal")) as stream:
        await stream.until("TEXT_MESSAGE_CONTENT")
        async with reading(connect, body("equal")) as one, reading(connect, body("equal")) as two:
            await one.until("TEXT_MESSAGE_CONTENT")
            await two.until("TEXT_MESSAGE_CONTENT")
            await post(f"{running.server.url}/drive", {"do": "open", "gate": "equal"})
            await asyncio.gather(stream.rest(), one.rest(), two.rest())
    assert one.events() == two.events()
    own = [each for each in stream.events() if each["type"] not in {"STATE_SNAPSHOT", "MESSAGES_SNAPSHOT"}]
    theirs = [each for each in one.events() if each["type"] not in {"STATE_SNAPSHOT", "MESSAGES_SNAPSHOT"}]
    assert own == theirs


async def test_a_reader_survives_an_evicted_beginning() -> None:
    with place(retention={"max_updates": 8}) as it:
        await events_of(it.url, body("evicted", "tool"))
        async with reading(it.url, body("evicted", "slow evicted")) as stream:
            await stream.until("TEXT_MESSAGE_CONTENT")
            for index in range(20):
                it.module.hub.publish("evicted", "log", {"level": "info", "message": str(index)})
            async with reading(f"{it.url}/connect", body("evicted")) as late:
                await late.until("MESSAGES_SNAPSHOT")
                await post(f"{it.server.url}/drive", {"do": "open", "gate": "evicted"})
                await asyncio.gather(stream.rest(), late.rest())
        events = late.events()
        last = [each for each in events if each["type"] == "MESSAGES_SNAPSHOT"][-1]
        assert last["messages"][-1]["content"] == "One two three four."
        assert events[-1]["type"] == "RUN_FINISHED"


@pytest.fixture
def both(shared_redis: RedisServer, redis_prefix: str) -> Generator[tuple[Place, Place]]:
    """Two servers with one log and one checkpointer."""
    saver = LastingSaver()
    settings: dict[str, Any] = {"log": shared_redis.url, "redis": {"prefix": redis_prefix}}

    def make(gates: Gates) -> Any:
        return chat(gates, saver)

    with place(make, **settings) as one, place(make, **settings) as two:
        yield one, two


async def test_two_processes_share_a_thread(both: tuple[Place, Place]) -> None:
    one, two = both
    async with reading(one.url, body("both", "slow both")) as stream:
        await stream.until("TEXT_MESSAGE_CONTENT")
        async with reading(f"{two.url}/connect", body("both")) as other:
            await other.until("TEXT_MESSAGE_CONTENT")
            await post(f"{one.server.url}/drive", {"do": "open", "gate": "both"})
            await asyncio.gather(stream.rest(), other.rest())
    assert text_of(other.events()) == text_of(stream.events()) == "One two three four."
    asked = await events_of(one.url, body("both", "ask"))
    done = await events_of(two.url, body("both", **resume((interrupts(asked)[0], "two"))))
    assert text_of(done) == "You answered 'two'."
    assert [each["role"] for each in done[-2]["messages"]] == ["user", "assistant"] * 2


async def test_a_large_state_comes_from_the_checkpointer() -> None:
    with place(runs={"state_bytes": 100}) as it:
        events = await events_of(it.url, body("large", "tool"))
        snapshot = next(each for each in events if each["type"] == "MESSAGES_SNAPSHOT")
        assert [each["role"] for each in snapshot["messages"]] == ["user", "assistant", "tool", "assistant"]
        state = next(each for each in events if each["type"] == "STATE_SNAPSHOT")
        assert state["snapshot"] == {"topic": "rain", "turns": 2}


async def test_states_from_the_checkpointer_are_redacted() -> None:
    def redact(type_: str, data: Any) -> Any:
        return json.loads(json.dumps(data).replace("hello", "***"))

    with place(redact=redact) as it:
        first = await events_of(it.url, body("secret", "hello"))
        again = await post(f"{it.url}/connect", body("secret"))
        assert "***" in again.text
        assert "hello" not in again.text
        shown = first[-2]["messages"]
        fresh = {"id": "u-2", "role": "user", "content": "two"}
        later = await events_of(it.url, body("secret", messages=[*shown, fresh]))
        assert len(later[-2]["messages"]) == 4  # the redacted message is no edit


async def test_a_run_that_the_program_has_started_is_readable(running: Place) -> None:
    module = running.module
    module.hub.open("own")
    module.hub.publish("own", "token", {"content": "By ", "index": 0})
    module.hub.publish("own", "token", {"content": "hand.", "index": 1})
    async with reading(f"{running.url}/connect", body("own")) as stream:
        await stream.until("hand.")
        await module.hub.close("own", {"answer": 42})
        await stream.rest()
    events = stream.events()
    assert text_of(events) == "By hand."
    assert events[-1]["result"] == {"answer": 42}


async def test_the_wire_counts_by_its_name(running: Place) -> None:
    async with reading(running.url, body("counted", "slow counted")) as stream:
        await stream.until("TEXT_MESSAGE_CONTENT")
        assert "ag-ui" in {each.transport for each in running.module.gateway.clients}
        await post(f"{running.server.url}/drive", {"do": "open", "gate": "counted"})
        await stream.rest()


# ---------------------------------------------------------------- CopilotKit
async def test_copilotkits_routes(guarded: Place) -> None:
    base, alice = f"{guarded.server.url}/copilotkit", bearer("alice", **GRANT)
    async with http() as client:
        info = (await client.get(f"{base}/info", headers=alice)).json()
        assert list(info["agents"]) == ["chat", "default"]
        assert (await client.get(f"{base}/info", headers=bearer("bob"))).json()["agents"] == {}
        assert (await client.get(f"{base}/info")).status_code == 401
    unknown = await post(f"{base}/agent/other/run", body("kit", "hello"), alice)
    assert (unknown.status_code, sorted(unknown.json())[1:3]) == (404, ["error", "message"])
    assert text_of(await events_of(f"{base}/agent/default/run", body("kit", "hello", modern=False), alice)) == HELLO
    single = {"method": "agent/connect", "params": {"agentId": "chat"}, "body": body("kit")}
    again = await events_of(base, {**single, "protocolVersion": "1.0"}, alice)
    assert [each["type"] for each in again] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "STATE_SNAPSHOT", "RUN_FINISHED"]
    assert (await post(base, {"method": "agent/dance"}, alice)).status_code == 400


async def test_a_copilotkit_page_that_leaves_does_not_cancel_and_stop_does(running: Place) -> None:
    base = f"{running.server.url}/copilotkit/agent/chat"
    async with reading(f"{base}/run", body("kit-stop", "slow kit-stop", modern=False)) as stream:
        await stream.until("TEXT_MESSAGE_CONTENT")
    async with reading(f"{base}/connect", body("kit-stop", modern=False)) as again:
        await again.until("TEXT_MESSAGE_CONTENT")
        assert (await post(f"{base}/stop/kit-stop", {})).json()["stopped"] is True
        await again.rest()
    assert again.events(modern=False)[-1]["code"] == "cancelled"
    assert (await post(f"{base}/stop/kit-stop", {})).json()["stopped"] is False
