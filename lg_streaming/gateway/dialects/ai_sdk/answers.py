"""Answers of a client, as responses to the prompts of a run that waits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lg_streaming.errors import BadRequestError
from lg_streaming.gateway.dialects.ai_sdk.chunks import members

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lg_streaming.gateway.dialects.ai_sdk.asking import Item, Question
    from lg_streaming.gateway.dialects.ai_sdk.request import Answer

__all__ = ["responses_of", "tool_messages"]


def responses_of(
    questions: Iterable[Question], answers: Sequence[Answer], lost_calls: Iterable[str] = ()
) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """Return the responses to prompts, and for each prompt the client's calls that show it, by approval id.

    Answers to questions that are not open are left out.

    Args:
        questions: The open questions.
        answers: The client's answers.
        lost_calls: Open calls of the thread, of which the log has no update. If as many of them have an output as
            tools may have asked, the outputs are answers, in order.

    Raises:
        BadRequestError: If only a part of the tool calls of one review has an answer.
    """
    responses: dict[str, Any] = {}
    shown: dict[str, dict[str, str]] = {}
    questions = list(questions)
    lost = _lost(questions, answers, set(lost_calls))
    for question in questions:
        found = [lost.get(question.prompt_id) or _answer_to(question, item, answers) for item in question.items]
        given = [each for each in found if each is not None]
        if not given:
            continue
        if len(given) < len(found):
            names = ", ".join(each.name for each in question.items)
            raise BadRequestError(f"the run waits for one decision about each of {names}: answer all of them")
        shown[question.prompt_id] = {
            item.approval_id: each.call_id for item, each in zip(question.items, given, strict=True)
        }
        responses[question.prompt_id] = _response(question, given)
    return responses, shown


def _lost(questions: Sequence[Question], answers: Sequence[Answer], calls: set[str]) -> dict[str, Answer]:
    asked = [each.prompt_id for each in questions if each.is_bare and each.kind != "call"]
    given = [each for each in answers if each.call_id in calls and (each.has_output or each.error is not None)]
    return dict(zip(asked, given, strict=True)) if len(asked) == len(given) else {}


def _answer_to(question: Question, item: Item, answers: Sequence[Answer]) -> Answer | None:
    for each in answers:
        if each.approval_id == item.approval_id and each.approved is not None:
            return each
        takes_value = each.has_output or each.error is not None
        if takes_value and each.call_id in {item.approval_id, item.call_id if question.kind == "call" else None}:
            return each
    return None


def _response(question: Question, answers: Sequence[Answer]) -> Any:
    review = question.review
    if review is None:
        return _value(answers[0])
    if review.form == "list":
        return [{"type": "accept" if each.approved else "ignore", "args": None} for each in answers]
    decisions = [_decision(each) for each in answers]
    return decisions[0] if review.form == "single" else {"decisions": decisions}


def _decision(answer: Answer) -> Any:
    if answer.approved is None:
        return members(answer.output) or _verdict(answer.output is True, answer.error)
    return _verdict(answer.approved, answer.reason)


def _verdict(approved: bool, reason: str | None) -> dict[str, str]:  # noqa: FBT001 (a decision)
    if approved:
        return {"type": "approve"}
    return {"type": "reject"} if reason is None else {"type": "reject", "message": reason}


def _value(answer: Answer) -> Any:
    if answer.approved is None:
        return {"error": answer.error} if answer.error is not None else answer.output
    return answer.approved if answer.reason is None else {"approved": answer.approved, "reason": answer.reason}


def tool_messages(answers: Sequence[Answer], call_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Return outputs of tool calls as messages, for the calls of a thread that have none.

    Args:
        answers: The client's answers.
        call_ids: The calls that have no result in the thread.
    """
    waiting = set(call_ids)
    return [
        {
            "role": "tool",
            "tool_call_id": each.call_id,
            "content": each.error if each.error is not None else _text(each.output),
            **({"status": "error"} if each.error is not None else {}),
        }
        for each in answers
        if each.call_id in waiting and (each.has_output or each.error is not None)
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
