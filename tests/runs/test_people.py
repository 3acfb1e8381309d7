"""Prompts of runs, and the answers that resume them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel

from lg_streaming import StreamingModule
from lg_streaming.errors import BadRequestError, PromptError, RunCancelledError
from lg_streaming.runs.human import prompts_of_state
from tests.runs.graphs import asking
from tests.runs.people import Answers, asked, asked_again, branches, data_of, one_node, start_asked, types_of


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module


# ---------------------------------------------------------------- places
@pytest.mark.row("FLOW-32")
@pytest.mark.row("FLOW-33")
async def test_an_interrupt_is_a_prompt_and_its_answer_a_response(streaming: StreamingModule) -> None:
    run, (prompt,) = await start_asked(streaming, asking("Ship it?"), {"text": "ok:"})
    data = prompt.data
    assert data == {
        "prompt_id": data["prompt_id"],
        "prompt": "Ship it?",
        "type": "input",
        "value": "Ship it?",
        "node_id": "ask",
        "namespace": prompt.metadata.namespace,
    }
    assert (prompt.metadata.node_id, prompt.metadata.run_id) == ("ask", run.run_id)
    await streaming.hub.respond("e", data["prompt_id"], "yes", responder="bob")
    assert (await run)["text"] == "ok: yes"
    assert await data_of(streaming, "human_response") == [
        {"prompt_id": data["prompt_id"], "response": "yes", "responded_by": "bob"}
    ]


def in_subgraph(*, called: bool) -> Any:
    async def ask(state: Answers) -> Answers:
        return {"answers": [interrupt({"question": "inside?"})]}

    inner = one_node(ask, checkpointer=None)

    async def call(state: Answers) -> Answers:
        return await inner.ainvoke({})

    builder = StateGraph(Answers)
    builder.add_node("team", call if called else inner)
    builder.add_edge(START, "team")
    return builder.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("called", [False, True], ids=["as a node", "called in a node"])
async def test_a_question_in_a_subgraph_has_the_inner_node(streaming: StreamingModule, called: bool) -> None:
    run, (prompt,) = await start_asked(streaming, in_subgraph(called=called))
    assert (prompt.data["prompt"], prompt.data["node_id"]) == ("inside?", "ask")
    assert [part.split(":")[0] for part in prompt.data["namespace"].split("|")] == ["team", "ask"]
    await streaming.hub.respond("e", prompt.data["prompt_id"], 7)
    assert (await run)["answers"] == [7]


async def test_prompts_of_a_state_are_those_of_the_run(streaming: StreamingModule) -> None:
    graph = in_subgraph(called=False)
    run, (prompt,) = await start_asked(streaming, graph)
    snapshot = await graph.aget_state({"configurable": {"thread_id": "e"}}, subgraphs=True)
    (again,) = prompts_of_state(graph, snapshot, run.run_id)
    assert (again.data, again.scope.node_id) == (prompt.data, "ask")
    await run.cancel()


async def test_branches_ask_at_once_and_all_answers_resume_them_once(streaming: StreamingModule) -> None:
    starts: list[Any] = []
    run, prompts = await start_asked(streaming, branches("a", "b", "c", starts=starts))
    assert sorted(each.data["prompt"] for each in prompts) == ["a", "b", "c"]
    assert len({each.data["namespace"] for each in prompts}) == 3
    for each in reversed(prompts):
        assert run.status == "interrupted"
        await streaming.hub.respond("e", each.data["prompt_id"], each.data["prompt"].upper())
    assert sorted((await run)["answers"]) == [("a", "A"), ("b", "B"), ("c", "C")]
    assert sorted(starts) == ["a", "a", "b", "b", "c", "c"]
    assert (await types_of(streaming)).count("workflow_interrupted") == 1


async def test_questions_one_after_the_other_in_a_node(streaming: StreamingModule) -> None:
    async def ask(state: Answers) -> Answers:
        return {"answers": [interrupt("first?"), interrupt("second?")]}

    run, (first,) = await start_asked(streaming, one_node(ask))
    await streaming.hub.respond("e", first.data["prompt_id"], 1)
    (second,) = await asked_again(streaming, run, {first.data["prompt_id"]})
    with pytest.raises(PromptError):
        await streaming.hub.respond("e", first.data["prompt_id"], 1)
    await streaming.hub.respond("e", second.data["prompt_id"], 2)
    assert (await run)["answers"] == [1, 2]


async def test_a_functional_task_asks(streaming: StreamingModule) -> None:
    @task
    async def ask(question: str) -> Any:
        return interrupt(question)

    @entrypoint(checkpointer=InMemorySaver())
    async def flow(value: str) -> Any:
        return [await ask(value), interrupt("and now?")]

    run, (first,) = await start_asked(streaming, flow, "sure?")
    assert (first.data["prompt"], first.data["node_id"]) == ("sure?", "ask")
    await streaming.hub.respond("e", first.data["prompt_id"], "yes")
    (second,) = await asked_again(streaming, run, {first.data["prompt_id"]})
    await streaming.hub.respond("e", second.data["prompt_id"], "go")
    assert await run == ["yes", "go"]


# ---------------------------------------------------------------- stops at nodes
@pytest.mark.parametrize("where", ["interrupt_before", "interrupt_after"])
async def test_a_breakpoint_is_a_confirmation(streaming: StreamingModule, where: str) -> None:
    node = "answer_node" if where == "interrupt_before" else "ask"
    graph = asking("?", **{where: [node]})
    run, (question,) = await start_asked(streaming, graph, {"text": "t"})
    await streaming.hub.respond("e", question.data["prompt_id"], "a")
    (prompt,) = await asked_again(streaming, run, {question.data["prompt_id"]})
    assert (prompt.data["type"], prompt.data["node_id"]) == ("confirmation", "answer_node")
    with pytest.raises(BadRequestError, match="true or false"):
        await streaming.hub.respond("e", prompt.data["prompt_id"], "perhaps")
    await streaming.hub.respond("e", prompt.data["prompt_id"], "continue")
    assert (await run)["text"] == "t a"


async def test_no_at_a_breakpoint_cancels_the_run(streaming: StreamingModule) -> None:
    run, (prompt,) = await start_asked(streaming, asking(interrupt_before=["ask"]))
    await streaming.hub.respond("e", prompt.data["prompt_id"], False)
    with pytest.raises(RunCancelledError, match="declined: Continue with ask"):
        await run
    assert await data_of(streaming, "workflow_cancelled") == [{"reason": "declined: Continue with ask?"}]


async def test_breakpoints_of_one_run(streaming: StreamingModule) -> None:
    run, (prompt,) = await start_asked(streaming, asking(), {"text": "t"}, call_options={"interrupt_before": ["ask"]})
    assert prompt.data["value"] == {"next": ["ask"]}
    await streaming.hub.respond("e", prompt.data["prompt_id"], True)
    (question,) = await asked_again(streaming, run, {prompt.data["prompt_id"]})
    assert question.data["type"] == "input"
    await run.cancel()
    with pytest.raises(RunCancelledError):
        await run


async def test_a_breakpoint_after_the_last_node_ends_the_run(streaming: StreamingModule) -> None:
    async def node(state: Answers) -> Answers:
        return {"answers": [1]}

    run = await streaming.runs.start(one_node(node, interrupt_after=["ask"]), {}, execution_id="e")
    assert await asyncio.wait_for(run, 5) == {"answers": [1]}


# ---------------------------------------------------------------- schemas and races
class Order(BaseModel):
    pencils: int
    note: str = ""


async def test_an_interrupts_schema_holds_for_its_answer(streaming: StreamingModule) -> None:
    async def ask(state: Answers) -> Answers:
        return {"answers": [interrupt("how many?", response_schema=Order)]}

    run, (prompt,) = await start_asked(streaming, one_node(ask))
    assert prompt.data["schema"]["required"] == ["pencils"]
    with pytest.raises(BadRequestError, match=r"the answer\.pencils is a whole number, not 'two'") as caught:
        await streaming.hub.respond("e", prompt.data["prompt_id"], {"pencils": "two"})
    assert caught.value.details["allowed"]["required"] == ["pencils"]
    await streaming.hub.respond("e", prompt.data["prompt_id"], {"pencils": 2})
    assert (await run)["answers"] == [Order(pencils=2)]


async def test_of_two_answers_at_once_one_wins(streaming: StreamingModule) -> None:
    run, (prompt,) = await start_asked(streaming, asking())
    answers = [streaming.hub.respond("e", prompt.data["prompt_id"], each) for each in ("a", "b")]
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(each) for each in results] == [type(None), PromptError]
    assert (await run)["text"].strip() == "a"


async def test_cancel_while_people_are_asked(streaming: StreamingModule) -> None:
    run, (prompt,) = await start_asked(streaming, asking())
    assert await run.cancel("late")
    with pytest.raises(RunCancelledError):
        await run
    with pytest.raises(PromptError):
        await streaming.hub.respond("e", prompt.data["prompt_id"], "yes")
    types = await types_of(streaming)
    assert [types.count(each) for each in ("workflow_cancelled", "human_response")] == [1, 0]


@pytest.mark.parametrize("answer_first", [True, False])
async def test_an_answer_and_a_cancel_at_once_give_one_end(streaming: StreamingModule, answer_first: bool) -> None:
    run, (prompt,) = await start_asked(streaming, asking())
    works = [streaming.hub.respond("e", prompt.data["prompt_id"], "yes"), run.cancel("stop")]
    await asyncio.gather(*(works if answer_first else reversed(works)), return_exceptions=True)
    with pytest.raises(RunCancelledError):
        await run
    ends = [each for each in await types_of(streaming) if each.startswith("workflow_c")]
    assert ends == ["workflow_cancelled"]
    assert streaming.runs.get("e") is None


async def test_responses_are_redacted() -> None:
    def redact(type: str, data: Any) -> Any:
        return {**data, "response": "***"} if type == "human_response" else data

    async with StreamingModule(redact=redact) as streaming:
        run, (prompt,) = await start_asked(streaming, asking())
        await streaming.hub.respond("e", prompt.data["prompt_id"], "secret")
        assert (await run)["text"].strip() == "secret"
        assert (await data_of(streaming, "human_response"))[0]["response"] == "***"


async def test_prompts_of_a_second_interruption_are_asked_of_new_readers(streaming: StreamingModule) -> None:
    run, (prompt,) = await start_asked(streaming, branches("a"))
    assert [each.data for each in await asked(streaming)] == [prompt.data]
    await run.cancel()
