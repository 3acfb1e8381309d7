"""Prompts of graphs that the application runs itself, and the answers it gets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from langgraph.types import Command

from lg_streaming import StreamingModule, human_prompt
from lg_streaming.errors import BadRequestError, PromptError
from tests.runs.graphs import asking
from tests.runs.people import Answers, asked, branches, one_node, types_of
from tests.runs.test_people_asking import in_a_sync_node


class Application:
    """Application that runs its graph itself, and resumes it with the answers."""

    def __init__(self, graph: Any, *, is_async: bool = True, resumes: bool = True) -> None:
        self.graph = graph
        self.answers: list[tuple[str, Mapping[str, Any]]] = []
        resume = (self.resume if is_async else self.resume_sync) if resumes else None
        self.streaming = StreamingModule({"capture": "all"}, resume=resume)

    @property
    def config(self) -> Any:
        return self.streaming.config(execution_id="e")

    async def resume(self, execution_id: str, answers: Mapping[str, Any]) -> None:
        self.answers.append((execution_id, answers))
        self.loop = asyncio.get_running_loop()
        await self.graph.ainvoke(Command(resume=answers), self.config)

    def resume_sync(self, execution_id: str, answers: Mapping[str, Any]) -> None:
        self.answers.append((execution_id, answers))
        asyncio.run(self.graph.ainvoke(Command(resume=answers), self.config))


@pytest.mark.parametrize("is_async", [True, False])
async def test_resume_gets_all_answers_once(is_async: bool) -> None:
    application = Application(branches("a", "b"), is_async=is_async)
    async with application.streaming as streaming:
        await application.graph.ainvoke({}, application.config)
        prompts = await asked(streaming)
        assert sorted(each.data["prompt"] for each in prompts) == ["a", "b"]
        assert {each.metadata.node_id for each in prompts} == {"ask"}
        for each in prompts:
            assert not application.answers
            await streaming.hub.respond("e", each.data["prompt_id"], each.data["prompt"].upper())
        types = await types_of(streaming)
        assert types[-1] == "workflow_complete"
        assert types.count("status") == 1
        expected = {each.data["prompt_id"]: each.data["prompt"].upper() for each in prompts}
        assert application.answers == [("e", expected)]


async def test_interrupts_and_prompts_have_the_same_ids() -> None:
    application = Application(asking({"question": "Sure?", "choices": ["yes", "no"], "type": "choice"}))
    async with application.streaming as streaming:
        await application.graph.ainvoke({}, application.config)
        (prompt,) = await asked(streaming)
        (last,) = [
            update async for update in streaming.hub.subscribe("e", types=["workflow_interrupted"], until="interrupted")
        ]
        assert [each["id"] for each in last.data["interrupts"]] == [prompt.data["prompt_id"]]
        with pytest.raises(BadRequestError, match="one of 'yes', 'no'"):
            await streaming.hub.respond("e", prompt.data["prompt_id"], "maybe")
        await streaming.hub.respond("e", prompt.data["prompt_id"], "yes")
        assert (await types_of(streaming))[-1] == "workflow_complete"


async def test_a_plain_resume_closes_the_prompts() -> None:
    application = Application(asking())
    async with application.streaming as streaming:
        await application.graph.ainvoke({}, application.config)
        (prompt,) = await asked(streaming)
        await application.graph.ainvoke(Command(resume="yes"), application.config)
        with pytest.raises(PromptError):
            await streaming.hub.respond("e", prompt.data["prompt_id"], "no")
        assert not application.answers


async def test_a_breakpoint_is_a_prompt_too() -> None:
    graph = asking(interrupt_before=["answer_node"])
    application = Application(graph, resumes=False)
    async with application.streaming as streaming:
        await graph.ainvoke({}, application.config)
        (question,) = await asked(streaming)
        await graph.ainvoke(Command(resume="a"), application.config)
        data = streaming.hub.registry.executions["e"].prompts
        ((prompt_id, prompt),) = data.items()
        assert question.data["prompt_id"] != prompt_id
        assert (prompt.data["type"], prompt_id.split("-", 1)[0]) == ("confirmation", "breakpoint")


async def test_a_block_asks_for_the_graphs_in_it() -> None:
    application = Application(asking(), resumes=False)
    async with application.streaming as streaming:
        async with streaming.execution("e"):
            await application.graph.ainvoke({}, {"configurable": {"thread_id": "t"}})
        (prompt,) = await asked(streaming)
        assert prompt.data["prompt"] == "Approve?"


async def test_answers_that_resume_nothing_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    application = Application(asking(), resumes=False)
    async with application.streaming as streaming:
        for execution_id in ("e", "f"):
            await application.graph.ainvoke({}, streaming.config(execution_id=execution_id))
            (prompt,) = await asked(streaming, execution_id)
            await streaming.hub.respond(execution_id, prompt.data["prompt_id"], "yes")
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "streaming.runs" in record.message
    assert "StreamingModule(resume=…)" in record.message


async def test_a_handler_of_the_execution_gets_the_answer_and_nothing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    application = Application(asking(), resumes=False)
    async with application.streaming as streaming:
        await application.graph.ainvoke({}, application.config)
        (prompt,) = await asked(streaming)
        answers: list[Any] = []
        streaming.hub.on_response("e", lambda prompt_id, response: answers.append((prompt_id, response)))
        await streaming.hub.respond("e", prompt.data["prompt_id"], "yes")
        assert answers == [(prompt.data["prompt_id"], "yes")]
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_a_sync_graph_asks_too() -> None:
    streaming = StreamingModule({"capture": "all"})
    one_node(in_a_sync_node).invoke({}, streaming.config(execution_id="e"))
    ((_, prompt),) = streaming.hub.registry.executions["e"].prompts.items()
    assert (prompt.data["type"], prompt.kind) == ("approval", "asked")
    asyncio.run(streaming.aclose())


async def test_a_closed_hub_has_no_timer() -> None:
    async def ask(state: Answers) -> Answers:
        return {"answers": [await human_prompt("Well?", timeout=3_600)]}

    streaming = StreamingModule({"capture": "all"})
    await one_node(ask).ainvoke({}, streaming.config(execution_id="e"))
    execution = streaming.hub.registry.executions["e"]
    assert len(execution.prompt_timers) == 1
    await streaming.aclose()
    assert not execution.prompt_timers
