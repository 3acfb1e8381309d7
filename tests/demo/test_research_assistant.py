"""The demo's graph, run for real with the offline model."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import ToolException

from lg_streaming import StreamingModule
from lg_streaming.demo import prompts, script
from lg_streaming.demo.corpus import LIBRARY, search
from lg_streaming.demo.graph import build_graph
from lg_streaming.demo.models import ModelNotAvailableError, make_model
from lg_streaming.demo.offline import offline_model
from lg_streaming.demo.tools import NOTHING_FOUND, demo_tools, evaluate
from lg_streaming.folding.run_view import NodeView, RunView, TextPart, ToolPart
from lg_streaming.testing import ScriptedChatModel

QUICK = 500.0


async def watched(question: str, *answers: str) -> tuple[dict[str, Any], RunView]:
    """The graph's result on `question`, and what a reader sees of the run; `answers` are those of a human."""
    graph = build_graph(offline_model(speed=QUICK), demo_tools(pause=0), answer_timeout=60 if answers else 0.01)
    view, given = RunView(), iter(answers)
    async with StreamingModule() as streaming:
        run = await streaming.runs.start(graph, {"question": question}, execution_id="exec-1")
        async for update in run.updates():
            view.apply(update.to_dict())
            if update.type == "human_prompt" and answers:
                await streaming.hub.respond("exec-1", update.data["prompt_id"], next(given), responder="ann")
        return await run, view


def texts(node: NodeView) -> list[str]:
    return [part.text for part in node.parts if isinstance(part, TextPart) and part.kind == "token"]


def tools(node: NodeView) -> list[tuple[str, str]]:
    return [(part.name, part.state) for part in node.parts if isinstance(part, ToolPart)]


async def test_it_plans_researches_in_parallel_writes_and_revises() -> None:
    result, run = await watched(prompts.DEFAULT_QUESTION)
    assert [(len(row), row[0].name) for row in run.rows] == [
        (1, "plan"),
        (3, "research"),
        (1, "write"),
        (1, "review"),
        (1, "write"),
        (1, "review"),
        (1, "approve"),
    ]
    assert (run.state, result["approved"], result["revisions"]) == ("complete", True, 2)
    _, researchers, (first_draft,), _, (second_draft,), (verdict,), _ = run.rows
    assert [texts(node) for node in researchers] == [[finding] for finding in result["findings"]]
    assert texts(first_draft) == [script.FIRST_DRAFT]
    assert texts(second_draft) == [script.REVISED_DRAFT] == [result["draft"]]
    assert texts(verdict) == [script.APPROVAL]


async def test_a_human_publishes_the_report() -> None:
    result, run = await watched(prompts.DEFAULT_QUESTION, "publish")
    assert (result["decision"], result["published"]) == ("publish", True)
    assert [node.name for row in run.rows[-2:] for node in row] == ["approve", "publish"]
    (prompt,) = run.prompts
    assert (prompt.text, prompt.options) == ("Publish the report?", ["1 publish", "2 revise", "3 discard"])
    assert (prompt.state, prompt.answer, prompt.responded_by) == ("answered", "publish", "ann")
    assert [one.tries for row in run.rows for one in row if one.name == "approve"] == [1]


async def test_a_humans_remark_reaches_the_writer() -> None:
    result, run = await watched(prompts.DEFAULT_QUESTION, "revise", "Name a city.", "publish")
    assert result["draft"] == f"{script.REVISED_DRAFT}\n\n{script.EDITOR_NOTE}Name a city."
    assert result["published"]
    assert [prompt.answer for prompt in run.prompts] == ["revise", "Name a city.", "publish"]


@pytest.mark.parametrize("answers", [[], ["discard"]], ids=["no answer", "discard"])
async def test_a_report_that_nobody_approves_is_not_published(answers: list[str]) -> None:
    result, run = await watched(prompts.DEFAULT_QUESTION, *answers)
    assert (run.state, result["decision"], result.get("published")) == ("complete", "discard", None)
    assert run.prompts[0].timed_out is not bool(answers)


async def test_readers_see_thinking_tools_and_progress() -> None:
    _, run = await watched(prompts.DEFAULT_QUESTION)
    (plan,), (first, second, third), (write,), *_ = run.rows
    thought = plan.parts[0]
    assert isinstance(thought, TextPart)
    assert (thought.kind, thought.text) == ("thinking", script.PLAN_THOUGHT)
    found, worked_out = ("search_library", "complete"), ("calculate", "complete")
    assert tools(first) == [found, found, worked_out]
    assert tools(second) == [found, worked_out]
    assert tools(third) == [found, found, worked_out, worked_out]
    assert {node.progress.percent for node in (first, second, third, write) if node.progress} == {100.0}


async def test_a_question_of_ones_own_is_answered_from_the_library() -> None:
    result, run = await watched("Are planted roofs good?")
    assert run.state == "complete"
    assert "Planted roofs" not in result["draft"]
    assert "They hold rain as well" in result["draft"]
    assert result["draft"].startswith(script.PLAIN_OPENING)


async def test_a_question_the_library_knows_nothing_of_is_answered_honestly() -> None:
    result, _ = await watched("Who won the boat race?")
    assert result["findings"] == [script.NOTHING_KNOWN] * 3
    assert script.NOTHING_KNOWN in result["draft"]


async def test_a_model_that_never_approves_ends_all_the_same() -> None:
    model = ScriptedChatModel(answers=["REVISE. Again, please."])
    graph = build_graph(model, demo_tools(pause=0), answer_timeout=0.01)
    async with StreamingModule() as streaming:
        result = await streaming.runs.run(graph, {"question": "What is rain?"})
    assert (result["approved"], result["questions"]) == (False, ["What is rain?"])


def test_every_scripted_search_finds_something() -> None:
    assert all(search(words) for study in script.STUDIES for words in study.searches)


def test_a_search_puts_the_best_passage_first() -> None:
    assert search("planted roofs")[0].title == "Planted roofs"
    assert search("boat race") == []
    assert len(search("city heat sun trees", limit=3)) == 3
    assert len({passage.title for passage in LIBRARY}) == len(LIBRARY)


async def test_the_search_tool_says_when_it_found_nothing() -> None:
    look_up, _ = demo_tools(pause=0)
    assert await look_up.ainvoke({"query": "boat race"}) == NOTHING_FOUND
    assert "Planted roofs: The surface" in await look_up.ainvoke({"query": "planted roofs"})


@pytest.mark.parametrize(
    ("expression", "value"), [("(1 + 3) / 2", 2), ("65 - 28", 37), ("-2 * 1.5", -3), ("1_000", 1000)]
)
def test_the_calculator_works_out_sums(expression: str, value: float) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression", ["", "1 +", "1 / 0", "2 ** 9", "True + 1", "__import__('os')", "x", "'a' * 3", "(" * 500, "1\0"]
)
def test_the_calculator_refuses_everything_else(expression: str) -> None:
    with pytest.raises(ToolException, match="cannot work out"):
        evaluate(expression)


@pytest.mark.parametrize(
    ("plan", "questions"),
    [
        ("1. One?\n2) Two?\n- Three?\n4. Four?", ["One?", "Two?", "Three?"]),
        ("Here they are:\n\n 1.  One? ", ["One?"]),
        ("I would rather not.", ["Why?"]),
        ("", ["Why?"]),
    ],
)
def test_questions_are_read_from_a_plan(plan: str, questions: list[str]) -> None:
    assert prompts.questions_in(plan, fallback="Why?") == questions


@pytest.mark.parametrize(
    ("verdict", "approved"), [("APPROVED.", True), ("**Approved** as it is", True), ("REVISE.", False), ("", False)]
)
def test_a_verdict_is_read(verdict: str, approved: bool) -> None:
    assert prompts.is_approved(verdict) is approved


def test_without_a_name_the_offline_model_speaks() -> None:
    assert isinstance(make_model(None), ScriptedChatModel)


@pytest.mark.parametrize(
    ("name", "told"),
    [("ollama:gpt-5-mini", "langchain-ollama"), ("nobody:nothing", "nobody"), ("nothing-known", "--model")],
)
def test_a_model_that_cannot_be_used_is_refused_with_what_to_do(name: str, told: str) -> None:
    with pytest.raises(ModelNotAvailableError, match=told):
        make_model(name)
