"""Answers that a person types in the terminal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lg_streaming.cli.answer_line import AnswerLine
from lg_streaming.errors import BadRequestError
from lg_streaming.folding.prompt_view import AnswerError, PromptView
from lg_streaming.folding.run_view import RunView
from tests.demo.updates import node, script

Answers = list[tuple[str, Any]]


def asked(*prompts: dict[str, Any]) -> tuple[RunView, Any]:
    """A run that waits for answers, and the function that makes its next update."""
    say, view = script(), RunView()
    for number, data in enumerate(prompts, start=1):
        view.apply(say("human_prompt", {"prompt_id": f"p{number}", "prompt": "Go?", "type": "input", **data}))
    return view, say


def line(view: RunView) -> tuple[AnswerLine, Answers, asyncio.Event]:
    """The line under test, the answers it sends, and an event for the first of them."""
    sent: Answers = []
    arrived = asyncio.Event()

    async def respond(prompt_id: str, answer: Any) -> None:
        sent.append((prompt_id, answer))
        arrived.set()

    return AnswerLine(view, respond), sent, arrived


async def test_what_is_typed_is_sent_with_enter() -> None:
    view, _ = asked({})
    answers, sent, arrived = line(view)
    answers.on_keys("now")
    answers.on_keys("\x1b[A")
    answers.on_keys("\t\x7f, p\x7fok")
    assert answers.text == "no, ok"
    assert not sent
    answers.on_keys("\r")
    await asyncio.wait_for(arrived.wait(), 5)
    assert sent == [("p1", "no, ok")]
    answers.on_keys("x\x15")
    assert answers.text == ""


async def test_nothing_is_sent_without_a_prompt_or_a_text() -> None:
    answers, sent, _ = line(RunView())
    answers.on_keys("yes\r")
    view, _ = asked({})
    empty, also_sent, _ = line(view)
    empty.on_keys("  \r")
    await asyncio.sleep(0)
    assert (sent, also_sent, answers.text) == ([], [], "")


async def test_a_text_for_one_prompt_does_not_answer_the_next() -> None:
    view, say = asked({}, {})
    answers, sent, _ = line(view)
    answers.on_keys("half of")
    view.apply(say("human_response", {"prompt_id": "p1", "response": "done elsewhere"}))
    assert answers.prompt is view.prompts[1]
    assert answers.text == ""
    answers.on_keys("\r")
    await asyncio.sleep(0)
    assert sent == []


async def test_a_refused_answer_shows_why_and_can_be_changed() -> None:
    view, _ = asked({"type": "approval"})
    refused = asyncio.Event()

    async def refuse(_prompt_id: str, _answer: Any) -> None:
        refused.set()
        raise BadRequestError("the answer is true or false")

    answers = AnswerLine(view, refuse)
    answers.on_keys("perhaps\r")
    await asyncio.wait_for(refused.wait(), 5)
    await asyncio.sleep(0)
    assert (answers.text, answers.error) == ("perhaps", "the answer is true or false")
    answers.on_keys("\x15n")
    assert (answers.text, answers.error) == ("n", None)
    await answers.aclose()


async def test_a_choice_that_there_is_not_is_refused_before_it_is_sent() -> None:
    view, _ = asked({"type": "choice", "choices": ["a", "b"]})
    answers, sent, _ = line(view)
    answers.on_keys("3\r")
    assert (answers.error, sent) == ("type a number from 1 to 2", [])
    await answers.aclose()


@pytest.mark.parametrize(
    ("data", "typed", "answer"),
    [
        ({"type": "choice", "choices": ["publish", 7]}, "2", 7),
        ({"type": "choice", "choices": ["publish", 7]}, "Publish", "publish"),
        ({"type": "approval"}, "y", "y"),
        ({"type": "input"}, "12", "12"),
        ({"type": "input", "schema": {"type": "integer"}}, "12", 12),
        ({"type": "input", "schema": {"type": "string"}}, "a text", "a text"),
    ],
)
def test_typed_answers(data: dict[str, Any], typed: str, answer: object) -> None:
    assert PromptView.from_data(data).parse(typed) == answer


@pytest.mark.parametrize("typed", ["0", "3", "²", "other"])
def test_typed_answers_that_are_no_choice(typed: str) -> None:
    with pytest.raises(AnswerError, match="from 1 to 2"):
        PromptView.from_data({"choices": ["a", "b"]}).parse(typed)


async def test_a_run_that_goes_on_closes_the_prompts_it_waited_for() -> None:
    view, say = asked({})
    view.apply(say("workflow_interrupted", {"prompts": [{"prompt_id": "p1", "prompt": "Go?"}]}))
    assert (view.state, [each.state for each in view.prompts]) == ("interrupted", ["open"])
    view.apply(say("node_start", **node("ask")))
    assert (view.state, view.prompts[0].state) == ("running", "closed")
