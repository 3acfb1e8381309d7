"""`human_prompt` in nodes and tools: its forms, its answers, its timeouts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from langgraph.types import Command
from pydantic import BaseModel, Field
from reactivex.testing import TestScheduler

from lg_streaming import StreamingModule, human_prompt, human_prompt_sync
from lg_streaming.errors import (
    BadRequestError,
    PromptError,
    PromptTimeoutError,
    RunCancelledError,
    StreamingConfigError,
)
from lg_streaming.timer import use_scheduler
from tests.runs.people import Answers, asked_again, data_of, one_node, start_asked


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module


def asks(*args: Any, **options: Any) -> Any:
    """Return a graph whose node asks once."""

    async def ask(state: Answers) -> Answers:
        return {"answers": [await human_prompt(*args, **options)]}

    return one_node(ask)


class Order(BaseModel):
    pencils: int = Field(ge=1)


APPROVAL = {"type": "approval"}
COLORS = {"choices": ["red", 3]}
CASES: list[tuple[dict[str, Any], list[Any], Any, Any]] = [
    (APPROVAL, ["perhaps", 1, None, {"a": 1}], "approve", True),
    (APPROVAL, [], {"approved": False}, False),
    (APPROVAL, [], {"type": "proceed", "feedback": ""}, True),
    ({"type": "confirmation"}, ["banana"], "NO", False),
    ({"type": "approval", "choices": ["Send", "Keep"]}, ["perhaps"], False, "Keep"),
    ({"type": "approval", "choices": ["Send", "Keep"]}, [], "Send", "Send"),
    (COLORS, ["blue", None, True], "3", 3),
    (COLORS, [], "red", "red"),
    ({}, [1, None, {}], "text", "text"),
    ({"required": False, "default": "d"}, [1], None, "d"),
    ({"schema": {"type": "integer", "minimum": 2}}, [1, "2", True, 2.5], 2, 2),
    ({"schema": Order}, [{}, {"pencils": 0}, 3], {"pencils": 2}, Order(pencils=2)),
]


@pytest.mark.row("FLOW-32")
@pytest.mark.parametrize(("options", "wrong", "right", "value"), CASES)
async def test_an_answer_has_to_fit(
    streaming: StreamingModule, options: dict[str, Any], wrong: list[Any], right: Any, value: Any
) -> None:
    run, (prompt,) = await start_asked(streaming, asks("Well?", **options))
    for each in wrong:
        with pytest.raises(BadRequestError) as caught:
            await streaming.hub.respond("e", prompt.data["prompt_id"], each)
        assert (caught.value.code, caught.value.execution_id) == (4000, "e")
        assert caught.value.details["allowed"]
        assert run.status == "interrupted"
    await streaming.hub.respond("e", prompt.data["prompt_id"], right)
    assert (await run)["answers"] == [value]
    assert len(await data_of(streaming, "human_response")) == 1


async def test_all_fields_of_a_prompt(streaming: StreamingModule) -> None:
    graph = asks("Which?", choices=["a", "b"], timeout=60, default="a", metadata={"page": 2})
    run, (prompt,) = await start_asked(streaming, graph)
    data = dict(prompt.data)
    assert data.pop("expires_at") > 0
    assert data.pop("namespace").startswith("ask:")
    assert data == {
        "prompt_id": prompt.data["prompt_id"],
        "prompt": "Which?",
        "type": "choice",
        "choices": ["a", "b"],
        "timeout_s": 60,
        "default": "a",
        "required": True,
        "metadata": {"page": 2},
        "node_id": "ask",
    }
    await run.cancel()


def in_a_sync_node(state: Answers) -> Answers:
    return {"answers": [human_prompt_sync("Well?", type="approval")]}


async def test_a_sync_node_asks(streaming: StreamingModule) -> None:
    run, (prompt,) = await start_asked(streaming, one_node(in_a_sync_node))
    await streaming.hub.respond("e", prompt.data["prompt_id"], "reject")
    assert (await run)["answers"] == [False]


async def test_a_forgotten_await_is_no_approval(streaming: StreamingModule) -> None:
    async def ask(state: Answers) -> Answers:
        return {"answers": ["sent"] if human_prompt("Send it?", type="approval") else []}

    run, (prompt,) = await start_asked(streaming, one_node(ask))
    await streaming.hub.respond("e", prompt.data["prompt_id"], False)
    with pytest.raises(TypeError, match="await human_prompt"):
        await run


async def test_an_answer_that_only_the_model_refuses_asks_again(streaming: StreamingModule) -> None:
    class Even(BaseModel):
        number: int

        def model_post_init(self, _: Any) -> None:
            if self.number % 2:
                raise ValueError("the number is odd")

    async def ask(state: Answers) -> Answers:
        return {"answers": [await human_prompt("Even?", schema=Even)]}

    run, (first,) = await start_asked(streaming, one_node(ask))
    await streaming.hub.respond("e", first.data["prompt_id"], {"number": 1})
    (second,) = await asked_again(streaming, run, {first.data["prompt_id"]})
    assert "odd" in second.data["error"]
    await streaming.hub.respond("e", second.data["prompt_id"], {"number": 2})
    assert (await run)["answers"][0].number == 2


async def test_a_plain_resume_with_a_wrong_value_asks_again() -> None:
    graph, config = asks("Send it?", type="approval"), {"configurable": {"thread_id": "t"}}
    await graph.ainvoke({}, config)
    again = await graph.ainvoke(Command(resume="banana"), config, version="v2")
    assert "true or false" in again.interrupts[0].value["error"]
    assert await graph.ainvoke(Command(resume="yes"), config) == {"answers": [True]}


@pytest.mark.parametrize("ask", [human_prompt, human_prompt_sync])
async def test_outside_of_a_graph_it_says_what_to_do(ask: Callable[[str], Any]) -> None:
    with pytest.raises(StreamingConfigError, match=r"call it in a node or a tool.*streaming\.runs"):
        ask("Well?")


@pytest.mark.parametrize("options", [{"type": "x"}, {"type": "choice"}, {"timeout": -1}, {"timeout": 0}])
def test_arguments_that_cannot_be_used(options: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        human_prompt("Well?", **options)


# ---------------------------------------------------------------- timeouts
async def test_a_timeout_gives_the_default(streaming: StreamingModule) -> None:
    clock = TestScheduler()
    with use_scheduler(clock):
        run, (prompt,) = await start_asked(streaming, asks("Well?", timeout=3_600, default="none", type="input"))
        clock.advance_by(3_000)
        assert run.status == "interrupted"
        clock.advance_by(700)
        assert (await run)["answers"] == ["none"]
    assert await data_of(streaming, "human_response") == [
        {"prompt_id": prompt.data["prompt_id"], "response": "none", "timed_out": True}
    ]
    with pytest.raises(PromptError):
        await streaming.hub.respond("e", prompt.data["prompt_id"], "late")


async def test_a_timeout_without_a_default_raises_in_the_node(streaming: StreamingModule) -> None:
    clock = TestScheduler()
    with use_scheduler(clock):
        run, _ = await start_asked(streaming, asks("Well?", timeout=60))
        clock.advance_by(61)
        with pytest.raises(PromptTimeoutError, match="'Well\\?' had no answer within 60 s"):
            await run
    (error,) = await data_of(streaming, "workflow_error")
    assert error["error"]["code"] == 4082


async def test_a_node_may_handle_the_timeout(streaming: StreamingModule) -> None:
    async def ask(state: Answers) -> Answers:
        try:
            return {"answers": [await human_prompt("Well?", timeout=60)]}
        except PromptTimeoutError:
            return {"answers": ["alone"]}

    clock = TestScheduler()
    with use_scheduler(clock):
        run, _ = await start_asked(streaming, one_node(ask))
        clock.advance_by(61)
        assert (await run)["answers"] == ["alone"]


async def test_an_answer_stops_the_timeout(streaming: StreamingModule) -> None:
    clock = TestScheduler()
    with use_scheduler(clock):
        run, (prompt,) = await start_asked(streaming, asks("Well?", timeout=60))
        await streaming.hub.respond("e", prompt.data["prompt_id"], "in time")
        clock.advance_by(61)
        assert (await run)["answers"] == ["in time"]


async def test_a_cancelled_run_has_no_timer(streaming: StreamingModule) -> None:
    run, _ = await start_asked(streaming, asks("Well?", timeout=60))
    execution = streaming.hub.registry.executions["e"]
    ((prompt_id, stop),) = execution.prompt_timers.items()
    stopped: list[str] = []
    execution.prompt_timers[prompt_id] = lambda: stopped.append(prompt_id) or stop()
    await run.cancel()
    with pytest.raises(RunCancelledError):
        await run
    assert stopped == [prompt_id]
    assert not execution.prompt_timers
    assert not execution.prompts
