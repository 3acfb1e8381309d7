"""Requests to models: readers get the same updates as from a captured model."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from reactivex.testing import TestScheduler

from lg_streaming import StreamingModule, stream_token
from lg_streaming.activity import LLMRequest, LLMStream
from lg_streaming.activity.providers import classify_error
from lg_streaming.emitter import NO_EMITTER, Emitter, current_emitter
from lg_streaming.errors import BadRequestError, TransitionError
from lg_streaming.hub import StreamHub
from lg_streaming.settings import LimitSettings, StreamingSettings
from tests.activity.reading import read, said, types
from tests.capture.graphs import State, Update, graph_of
from tests.hub.helpers import collect


@pytest.mark.row("CFLOW-27")
async def test_a_request_says_what_is_asked_but_not_the_words(hub: StreamHub) -> None:
    llm = LLMStream(hub.emitter("e", extra={"tenant": 1}))
    llm.request(
        provider="anthropic",
        model="m-1",
        agent_id="a1",
        task_id="t1",
        messages=[{"role": "user", "content": "secret question"}],
        system_prompt="secret prompt",
        parameters={"temperature": 0.7},
        tools=["search", {"name": "read"}, {"type": "function", "function": {"name": "write"}}, print, {}],
        request_id="r1",
    )
    (update,) = await read(hub)
    assert (update.type, update.data) == (
        "llm_start",
        {
            "model": "m-1",
            "provider": "anthropic",
            "message_id": "r1",
            "agent_id": "a1",
            "task_id": "t1",
            "parameters": {"temperature": 0.7},
            "tools": ["search", "read", "write", "print", "tool"],
        },
    )
    metadata = update.metadata
    assert (metadata.request_id, metadata.message_id, metadata.task_id) == ("r1", "r1", "t1")
    assert metadata.extra == {"tenant": 1, "agent_id": "a1"}
    assert "secret" not in str(update)


@pytest.mark.row("CFLOW-27")
async def test_messages_leave_when_they_may(hub: StreamHub) -> None:
    llm = LLMStream(hub.emitter("e"), include_messages=True)
    llm.request(model="m", messages=["q"], system_prompt="s", request_id="r1", message_id="m1")
    (update,) = await read(hub)
    assert update.data == {"model": "m", "message_id": "m1", "messages": ["q"], "system_prompt": "s"}
    assert (update.metadata.request_id, update.metadata.message_id) == ("r1", "m1")


@pytest.mark.row("CFLOW-28")
@pytest.mark.row("CFLOW-31")
async def test_an_answer_is_tokens_and_then_the_whole(hub: StreamHub, clock: TestScheduler) -> None:
    llm = LLMStream(hub.emitter("e"))
    request = llm.request(model="m", provider="p", agent_id="a1", task_id="t1", request_id="r1")
    request.thinking("hm")
    for piece in ("Here", "", " is"):
        request.token(piece)
    request.token(" it", finish_reason="stop")
    request.usage(prompt_tokens=100, completion_tokens=3, cost=0.5)
    clock.advance_by(2.5)
    assert "r1" in llm
    request.completed()
    updates = await read(hub)
    about = {"role": "ai", "metadata": {"model": "m", "provider": "p"}}
    assert said(updates, "thinking") == [{"content": "hm", "index": 0, **about}]
    assert said(updates, "token") == [
        {"content": "Here", "index": 0, **about},
        {"content": " is", "index": 1, **about},
        {"content": " it", "index": 2, "finish_reason": "stop", "is_final": True, **about},
    ]
    assert {update.metadata.task_id for update in updates} == {"t1"}
    assert {update.metadata.message_id for update in updates} == {"r1"}
    usage = {"input_tokens": 100, "output_tokens": 3, "total_tokens": 103, "cost": 0.5}
    assert said(updates, "usage") == [{"model": "m", "provider": "p", **usage}]
    assert said(updates, "llm_complete") == [
        {
            "model": "m",
            "provider": "p",
            "response": "Here is it",
            "finish_reason": "stop",
            "usage": usage,
            "duration_s": 2.5,
        }
    ]
    assert types(updates)[-1] == "llm_complete"
    assert "r1" not in llm, "its state is freed"
    assert request.full_response() == "Here is it"


@pytest.mark.row("CFLOW-29")
async def test_tool_calls_come_in_pieces_or_whole(hub: StreamHub, clock: TestScheduler) -> None:
    request = LLMStream(hub.emitter("e")).request(model="m")
    request.tool_call("c1", "write_file", '{"path": ', is_complete=False)
    request.tool_call("c1", "write_file", '"main.py"}')
    request.tool_call("c2", "now")
    request.tool_call("c3", "say", {"text": "hi"})
    request.tool_call("c4", "run", "not json")
    clock.advance_by(0.15)
    request.tool_result("c1", {"success": True})
    request.tool_result("c2", error=ValueError("no clock"), duration_s=9)
    request.tool_result("c9", 1, tool="other")
    request.completed()
    updates = await read(hub)
    assert said(updates, "tool_args") == [
        {"tool_call_id": "c1", "tool": "write_file", "args": '{"path": ', "index": 0},
        {"tool_call_id": "c1", "args": '"main.py"}', "index": 0},
    ]
    assert [(data["tool"], data["tool_call_id"], data["input"]) for data in said(updates, "tool_start")] == [
        ("write_file", "c1", {"path": "main.py"}),
        ("now", "c2", {}),
        ("say", "c3", {"text": "hi"}),
        ("run", "c4", "not json"),
    ]
    done = {"tool": "write_file", "tool_call_id": "c1", "duration_s": 0.15, "output": {"success": True}}
    assert said(updates, "tool_complete") == [done, {"tool": "other", "tool_call_id": "c9", "output": 1}]
    assert said(updates, "tool_error") == [
        {
            "tool": "now",
            "tool_call_id": "c2",
            "duration_s": 9,
            "error": {"message": "no clock", "type": "ValueError"},
        }
    ]
    ids = [update.metadata.tool_call_id for update in updates if update.type in {"tool_start", "tool_complete"}]
    assert ids == ["c1", "c2", "c3", "c4", "c1", "c9"]
    assert said(updates, "llm_complete")[0]["tool_calls"] == [
        {"tool_call_id": "c1", "tool": "write_file"},
        {"tool_call_id": "c2", "tool": "now"},
        {"tool_call_id": "c3", "tool": "say"},
        {"tool_call_id": "c4", "tool": "run"},
        {"tool_call_id": "c9", "tool": "other"},
    ]


@given(st.recursive(st.integers() | st.text() | st.none(), lambda part: st.dictionaries(st.text(), part)), st.data())
def test_arguments_are_the_same_however_they_were_cut(value: Any, data: st.DataObject) -> None:
    text, recorder = json.dumps({"value": value}), Recorder()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    request = LLMStream(recorder).request()
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        request.tool_call("c", "t", text[begin:end], is_complete=end == len(text) and begin == ([0, *cuts][-1]))
        if request.state.status and any(kind == "tool_start" for kind, _, _ in recorder.said):
            break
    (start,) = [data for kind, data, _ in recorder.said if kind == "tool_start"]
    assert start["input"] == {"value": value}
    pieces = [data["args"] for kind, data, _ in recorder.said if kind == "tool_args"]
    assert "".join(pieces) in {"", text}


class Recorder(Emitter):
    """Keeps what it is given with its attempt, and raises like an emitter of a hub."""

    def __init__(self, scope: Any = None, said: list[tuple[str, Any, int | None]] | None = None) -> None:
        super().__init__(None, "e", *([scope] if scope is not None else []))
        self.said: list[tuple[str, Any, int | None]] = [] if said is None else said

    @property
    def raises_errors(self) -> bool:
        return True

    def scoped(self, **changes: Any) -> "Recorder":
        return Recorder(self.scope.derive(**changes), self.said)

    def event(self, type: str, data: object = None, **options: Any) -> None:
        self.said.append((type, data, self.scope.attempt))

    def publish_text(self, type: str, data: dict[str, Any], scope: Any) -> None:
        self.said.append((type, data, scope.attempt))


@pytest.mark.row("CFLOW-30")
async def test_usage_is_put_together_under_either_name(hub: StreamHub) -> None:
    request = LLMStream(hub.emitter("e")).request(model="m")
    request.usage(input_tokens=10)
    request.usage(completion_tokens=5)
    request.usage(total_tokens=16, cost=0.25, cost_breakdown={"input": 0.1, "output": 0.15})
    usage = {"model": "m", "input_tokens": 10, "total_tokens": 10}
    later = {**usage, "output_tokens": 5, "total_tokens": 15}
    last = {**later, "total_tokens": 16, "cost": 0.25, "cost_breakdown": {"input": 0.1, "output": 0.15}}
    assert said(await read(hub), "usage") == [usage, later, last]


@pytest.mark.row("CFLOW-32")
async def test_an_error_ends_a_request_unless_it_is_tried_again(hub: StreamHub, clock: TestScheduler) -> None:
    llm = LLMStream(hub.emitter("e"))
    request = llm.request(model="m", request_id="r1")
    request.token("wrong ")
    request.usage(input_tokens=1)
    request.tool_call("c1", "t")
    request.error("slow down", error_type="rate_limit", code="rl_1", will_retry=True)
    assert (request.status, "r1" in llm) == ("retrying", True)
    request.token("right")
    assert request.full_response() == "right"
    request.error(TimeoutError("late"), will_retry=True, retry_attempt=7)
    request.retried()
    request.error(ConnectionResetError("gone"))
    assert (request.status, request.ended, "r1" in llm) == ("failed", True, False)
    updates = await read(hub)
    assert types(updates) == [
        "llm_start",
        "token",
        "usage",
        "tool_start",
        "llm_error",
        "llm_start",
        "token",
        "llm_error",
        "llm_start",
        "llm_error",
    ]
    error = {"message": "slow down"}
    first, second, third = said(updates, "llm_error")
    assert first == {
        "model": "m",
        "error": error,
        "error_type": "rate_limit",
        "code": "rl_1",
        "retry_attempt": 1,
        "will_retry": True,
        "duration_s": 0.0,
    }
    assert (second["error_type"], second["retry_attempt"]) == ("timeout", 7)
    assert (third["error_type"], third["will_retry"], "retry_attempt" in third) == ("network", False, False)
    assert [update.metadata.attempt for update in updates] == [1] * 5 + [2] * 3 + [3] * 2
    assert [data.get("retry_attempt") for data in said(updates, "llm_start")] == [None, 1, 2]
    assert [data["index"] for data in said(updates, "token")] == [0, 0], "the text begins afresh"
    assert {update.metadata.message_id for update in updates} == {"r1"}


@pytest.mark.row("CFLOW-32")
async def test_attempts_go_on_from_the_nodes_own(hub: StreamHub) -> None:
    request = LLMStream(hub.emitter("e").scoped(attempt=3)).request()
    request.error("no", will_retry=True)
    request.token("x")
    assert [update.metadata.attempt for update in await read(hub)] == [3, 3, 4, 4]


class StatusError(Exception):
    def __init__(self, status: int, where: str) -> None:
        super().__init__(str(status))
        if where == "response":
            self.response = type("Response", (), {"status_code": status})()
        else:
            self.status_code = status


@pytest.mark.row("CFLOW-32")
@pytest.mark.parametrize("where", ["itself", "response"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "rate_limit"),
        (401, "authentication"),
        (403, "authentication"),
        (400, "invalid_request"),
        (422, "invalid_request"),
        (408, "timeout"),
        (504, "timeout"),
        (500, "server_error"),
        (529, "server_error"),
        (302, None),
    ],
)
def test_the_kind_of_an_error_is_told_from_its_status(status: int, kind: str | None, where: str) -> None:
    assert classify_error(StatusError(status, where)) == kind


def test_the_kind_of_an_error_without_a_status() -> None:
    assert classify_error(TimeoutError()) == "timeout"
    assert classify_error(ConnectionRefusedError()) == "network"
    assert classify_error(ValueError()) is None


@pytest.mark.row("CFLOW-33")
@pytest.mark.row("CFLOW-D11")
async def test_the_whole_response_is_kept_up_to_a_size(hub: StreamHub) -> None:
    long = LLMStream(hub.emitter("e")).request()
    for number in range(5_000):
        long.token(f"{number} ")
    whole = "".join(f"{number} " for number in range(5_000))
    assert (long.full_response(), long.truncated) == (whole, False)
    short = LLMStream(hub.emitter("e"), response_bytes=5).request()
    short.token("abcé")
    short.token("é")
    assert (short.full_response(), short.truncated) == ("abcé", True)
    short.completed()
    huge = LLMStream(hub.emitter("e")).request()
    huge.token("é" * 50_000)
    huge.completed()
    first, second = said(await read(hub), "llm_complete")
    assert (first["response"], first["response_truncated"]) == ("abcé", True)
    assert (second["response"], second["response_truncated"]) == ("é" * 16_384, True)
    assert huge.full_response() == "é" * 50_000


async def test_an_answer_over_the_limit_of_updates_still_ends() -> None:
    hub = StreamHub(StreamingSettings(limits=LimitSettings(update_bytes=1_024)))
    request = LLMStream(hub.emitter("e")).request()
    for _ in range(10):
        request.token("x" * 500)
    request.completed()
    (complete,) = said(await read(hub), "llm_complete")
    assert complete["truncated"] == {"response": 5_002}
    assert complete["response_truncated"]
    assert "duration_s" in complete
    assert set(complete["response"]) == {"x"}
    await hub.aclose()


async def test_a_response_that_was_not_streamed(hub: StreamHub) -> None:
    request = LLMStream(hub.emitter("e")).request()
    request.completed("all at once", finish_reason="length")
    (complete,) = said(await read(hub), "llm_complete")
    assert (complete["response"], complete["finish_reason"]) == ("all at once", "length")


@pytest.mark.row("CFLOW-26")
async def test_what_is_not_included_does_not_leave(hub: StreamHub) -> None:
    llm = LLMStream(hub.emitter("e"), include_tokens=False, include_tool_calls=False, include_usage=False)
    request = llm.request()
    request.thinking("hm")
    request.token("x")
    request.tool_call("c1", "t", "{", is_complete=False)
    request.tool_call("c1", "t", "}")
    request.tool_result("c1", 1)
    request.usage(input_tokens=1)
    request.completed()
    updates = await read(hub)
    assert types(updates) == ["llm_start", "llm_complete"]
    assert updates[1].data.keys() == {"response", "duration_s"}
    assert updates[1].data["response"] == "x"


STEPS: dict[str, Callable[[LLMRequest], None]] = {
    "token": lambda request: request.token("x"),
    "thinking": lambda request: request.thinking("x"),
    "tool_call": lambda request: request.tool_call("c", "t", "x", is_complete=False),
    "tool_result": lambda request: request.tool_result("d", 1, tool="t"),
    "usage": lambda request: request.usage(input_tokens=1),
    "completed": lambda request: request.completed(),
    "error": lambda request: request.error("no"),
    "error_retry": lambda request: request.error("no", will_retry=True),
    "retried": lambda request: request.retried(),
}
ENDS = {"completed": "completed", "error": "failed", "error_retry": "retrying"}


class Requests(RuleBasedStateMachine):
    """Any steps in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.emitter = Recorder()
        self.llm = LLMStream(self.emitter)
        self.request = self.llm.request(request_id="r")
        self.expected = "running"
        self.attempts = 1
        self.text = ""

    @rule(step=st.sampled_from(list(STEPS)))
    def step(self, step: str) -> None:
        before = len(self.emitter.said)
        legal = self.expected == "retrying" if step == "retried" else self.expected in {"running", "retrying"}
        if not legal:
            with pytest.raises(TransitionError):
                STEPS[step](self.request)
            assert len(self.emitter.said) == before
            return
        if self.expected == "retrying" and step not in {"error", "error_retry"}:
            self.attempts = self.request.state.failures + 1
            self.text = ""
        STEPS[step](self.request)
        self.expected = ENDS.get(step, "running")
        self.text += "x" if step == "token" else ""
        assert self.emitter.said[-1][2] == self.attempts

    @invariant()
    def it_is_where_it_should_be(self) -> None:
        assert self.request.status == self.expected
        assert ("r" in self.llm) is (self.expected in {"running", "retrying"})
        assert self.request.full_response() == self.text
        attempts = [attempt or 1 for _, _, attempt in self.emitter.said]
        assert attempts == sorted(attempts), "they only rise"
        starts = [attempt for kind, _, attempt in self.emitter.said if kind == "llm_start"]
        assert len(starts) == len(set(starts)) == len(set(attempts)), "each try begins once"
        last = attempts[-1]
        shown = "".join(
            data["content"] for kind, data, attempt in self.emitter.said if kind == "token" and (attempt or 1) == last
        )
        assert shown == self.text, "the text of the last attempt is the text"


@pytest.mark.row("CFLOW-32")
@pytest.mark.row("CFLOW-33")
def test_any_steps_in_any_order() -> None:
    run_state_machine_as_test(Requests)


WRONG: list[Callable[[Any], object]] = [
    lambda r: r.token(None),
    lambda r: r.thinking(b"x"),
    lambda r: r.tool_call("", "t"),
    lambda r: r.tool_call("c", ""),
    lambda r: (r.tool_call("c", "t"), r.tool_call("c", "t")),
    lambda r: r.tool_result("unknown", 1),
    lambda r: r.tool_result("c", 1, tool="t", duration_s=-1),
    lambda r: r.usage(input_tokens=-1),
    lambda r: r.usage(cost=float("nan")),
    lambda r: r.usage(total_tokens=1.5),
    lambda r: r.error("no", error_type="weather"),
    lambda r: r.completed(1),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_values_that_cannot_be_used_are_refused(wrong: Callable[[Any], object]) -> None:
    recorder = Recorder()
    request = LLMStream(recorder).request()
    with pytest.raises(BadRequestError):
        wrong(request)
    assert [kind for kind, _, _ in recorder.said if kind != "tool_start"] == ["llm_start"]
    assert request.status == "running"


@pytest.mark.row("CFLOW-31")
@pytest.mark.parametrize(
    ("raised", "end"),
    [(None, "llm_complete"), (ValueError("no"), "llm_error"), (asyncio.CancelledError(), "llm_error")],
    ids=str,
)
async def test_a_block_ends_its_request(hub: StreamHub, raised: BaseException | None, end: str) -> None:
    llm = LLMStream(hub.emitter("e"))
    seen: BaseException | None = None
    try:
        async with llm.request() as request:
            request.token("x")
            if raised is not None:
                raise raised
    except BaseException as error:  # noqa: BLE001 (that it is the same is tested)
        seen = error
    assert seen is raised
    assert types(await read(hub)) == ["llm_start", "token", end]
    assert len(llm) == 0


async def test_in_a_node_its_text_goes_the_way_of_the_nodes_text() -> None:
    @stream_token(buffer_size=10, batch_size=10, flush_interval=60, processor=lambda token, _: token.upper())
    async def node(_: State) -> Update:
        with LLMStream(current_emitter()).request(model="m") as request:
            for piece in ("a", "b", "c"):
                request.token(piece)
            request.tool_call("c1", "t", "{}")
            request.token("d")
            request.token("e", finish_reason="stop")
        request.token("late")
        return {}

    async with StreamingModule() as streaming:
        await graph_of(node).ainvoke({"topic": "x"}, streaming.config(execution_id="e"))
        updates = await collect(streaming.hub.subscribe("e"))
    told = [(update.type, update.data.get("content")) for update in updates if update.metadata.request_id is not None]
    assert told == [
        ("llm_start", None),
        ("token", "A"),
        ("token", "BC"),
        ("tool_start", None),
        ("token", "DE"),
        ("llm_complete", None),
    ]
    assert updates[-1].type == "workflow_complete"


def test_outside_of_any_execution_nothing_happens() -> None:
    with LLMStream(NO_EMITTER).request() as request:
        request.token("x")
        request.usage(input_tokens=-1)
    assert request.full_response() == "x"
