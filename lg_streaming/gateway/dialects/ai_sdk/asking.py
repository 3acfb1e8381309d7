"""Prompts of a run that waits, as approvals of tool calls, and as calls that the client answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.gateway.dialects.ai_sdk.chunks import chunk, event, items_of, members, text_of
from lg_streaming.prompts.answers import verdict_of
from lg_streaming.prompts.reviews import read_review

if TYPE_CHECKING:
    from lg_streaming.gateway.dialects.ai_sdk.steps import Call, Steps
    from lg_streaming.prompts.reviews import Review

__all__ = ["ASKING_TOOL", "Item", "Question", "announce", "close", "place", "read_question"]

ASKING_TOOL: Final = "human_prompt"
"""Name of the tool of a call that asks a person, and is none of a model's."""
_REJECTIONS: Final = ("reject", "ignore")
_SHOWN: Final = ("prompt", "type", "choices", "schema", "default", "expires_at", "metadata", "error", "value")


@dataclass(slots=True, kw_only=True)
class Item:
    """One thing that a person decides: a whole prompt, or one tool call of a review."""

    approval_id: str
    """Id by which the client answers: the prompt's, or ``<prompt>:<number>`` in a review of several calls."""
    input: dict[str, Any]
    """Input of the call that asks, where the item has no call of a model."""
    call_id: str | None = None
    """The model's call that the item is about."""
    own_part: bool = False
    """True if the model's call itself shows the item; false for a call that asks."""
    name: str = ""
    args: Any = None


@dataclass(slots=True, kw_only=True)
class Question:
    """An open prompt."""

    prompt_id: str
    kind: str
    """``review``: tool calls of a middleware. ``approval``: yes or no. ``input``: a value. ``call``: the output of the
    tool call that waits."""
    items: list[Item]
    review: Review | None = None
    announced: bool = False
    is_bare: bool = False
    """True for LangGraph's own `interrupt()`, with any value."""

    @property
    def takes_approval(self) -> bool:
        """True if it is answered with an approval."""
        return self.kind in {"review", "approval"}


def read_question(data: dict[str, Any]) -> Question | None:
    """Return the question of a prompt's data; None without an id."""
    prompt_id = text_of(data.get("prompt_id"))
    if prompt_id is None:
        return None
    review = read_review(data.get("value"))
    shown = {name: data[name] for name in _SHOWN if name in data}
    call_id = text_of(data.get("tool_call_id"))
    if review is not None:
        several = review.form != "single"
        items = [
            Item(
                approval_id=f"{prompt_id}:{number}" if several else prompt_id,
                input={"prompt": each.description or shown.get("prompt"), "name": each.name, "args": each.args},
                call_id=None if several else call_id,
                name=each.name,
                args=each.args,
            )
            for number, each in enumerate(review.actions)
        ]
        return Question(prompt_id=prompt_id, kind="review", items=items, review=review)
    is_bare = "value" in data and not prompt_id.startswith("breakpoint-")
    choices = data.get("choices")
    has_form = choices is not None or data.get("schema") is not None
    if data.get("type") in ("approval", "confirmation"):
        has_buttons = len(items_of(choices)) == 2  # noqa: PLR2004 (yes and no)
        kind = "approval" if has_buttons or not has_form else "input"
    elif is_bare and call_id is not None:
        kind = "call"
    else:
        kind = "approval" if is_bare and not has_form else "input"
    item = Item(approval_id=prompt_id, input=shown, call_id=call_id if kind == "call" else None)
    return Question(prompt_id=prompt_id, kind=kind, items=[item], is_bare=is_bare)


def place(question: Question, steps: Steps) -> None:
    """Decide which calls of the model show a question.

    An approval counts in a client's last step only, and only if no other call of that step is open.
    """
    open_calls = [each for each in steps.calls.values() if each.state != "closed" and not each.is_dynamic]
    if question.kind == "review":
        _match(question.items, open_calls)
        matched = {each.call_id for each in question.items}
        last = [each for each in open_calls if each.step == steps.number]
        fits = bool(last) and matched == {each.call_id for each in last}
        for item in question.items:
            item.own_part = fits
    elif question.kind == "call":
        item = question.items[0]
        item.own_part = item.call_id in {each.call_id for each in open_calls}


def _match(items: list[Item], calls: list[Call]) -> None:
    """Find the calls of a review in the order of its requests; a call with the same arguments comes first."""
    left = list(calls)
    for item in items:
        if item.call_id is None:
            named = [each for each in left if each.name == item.name]
            found = next((each for each in named if each.input == item.args), named[0] if named else None)
            item.call_id = found.call_id if found is not None else None
        left = [each for each in left if each.call_id != item.call_id]


def announce(question: Question, steps: Steps, *, waits: bool, approvals: bool) -> None:
    """Write a question into the message.

    Args:
        question: The question, which is placed.
        steps: The message.
        waits: True if the run waits for the answer, so that approvals are requested.
        approvals: True if the clients know approvals.
    """
    question.announced = True
    for item in question.items:
        if not item.own_part:
            if steps.calls_of_step() and not all(each.is_dynamic for each in steps.calls_of_step()):
                steps.begin_step()
            call = steps.add_call(item.approval_id, ASKING_TOOL, is_dynamic=True)
            steps.show_input(call, item.input)
        if waits and approvals and question.takes_approval:
            call_id = item.call_id if item.own_part else item.approval_id
            steps.write(chunk("tool-approval-request", approvalId=item.approval_id, toolCallId=call_id))


def close(question: Question, response: Any, steps: Steps, *, approvals: bool) -> None:
    """Write the answer to a question: an output or a denial for each call that asks, a denial for a refused call."""
    if not question.announced:
        announce(question, steps, waits=False, approvals=approvals)
    for number, item in enumerate(question.items):
        answer = _decision(question, response, number)
        denied = question.takes_approval and _denies(answer)
        ended = [] if item.own_part else [item.approval_id]
        if question.kind == "review" and item.call_id is not None and (denied or _responds(answer)):
            ended.append(item.call_id)
        elif item.own_part and item.call_id in steps.calls:
            steps.calls[item.call_id].is_approved = True
        for call_id in ended:
            call = steps.calls.get(call_id)
            if call is not None:
                if denied and approvals:
                    steps.close_call(call, chunk("tool-output-denied", toolCallId=call_id))
                else:
                    steps.close_call(call, output(call, answer))


def output(call: Call, value: Any) -> bytes:
    """Return the output of a call as a chunk."""
    content: dict[str, Any] = {"type": "tool-output-available", "toolCallId": call.call_id, "output": value}
    if call.is_dynamic:
        content["dynamic"] = True
    return event(content)


def _decision(question: Question, response: Any, number: int) -> Any:
    if question.review is None or question.review.form == "single":
        return response
    decisions = items_of(members(response).get("decisions", response))
    return decisions[number] if number < len(decisions) else None


def _denies(answer: Any) -> bool:
    return members(answer).get("type") in _REJECTIONS or verdict_of(answer) is False


def _responds(answer: Any) -> bool:
    return members(answer).get("type") in ("respond", "response")
