"""Check an answer before it closes its prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import BadRequestError
from lg_streaming.prompts.json_schema import schema_errors
from lg_streaming.prompts.reviews import DecisionError, check_review, read_review

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.prompts.prompt import Prompt

__all__ = ["check_answer"]

_YES: Final = frozenset({"approve", "approved", "accept", "accepted", "confirm", "confirmed", "yes", "y", "true", "ok"})
_ALSO_YES: Final = frozenset({"allow", "proceed", "continue"})
_NO: Final = frozenset({"reject", "rejected", "deny", "denied", "decline", "declined", "no", "n", "false", "cancel"})
_YES_OR_NO: Final = "true or false, or a word such as approve and reject"


def check_answer(prompt: Prompt, response: object) -> Any:
    """Return the answer as the graph gets it: an approval of `human_prompt` as a boolean, a review as decisions.

    Answers to other prompts are returned unchanged.

    Raises:
        BadRequestError: If it does not fit the prompt. Its details have ``allowed``.
    """
    match prompt.kind:
        case "review":
            return _check_decisions(prompt, response)
        case "breakpoint":
            return _check_verdict(prompt, response)
        case "asked":
            return _check_asked(prompt, response)
        case "interrupt":
            return _check_value(prompt, response)
        case "published":
            return _check_published(prompt, response)


def verdict_of(response: object) -> bool | None:
    """Return an answer as yes or no; None if it is neither."""
    if isinstance(response, bool):
        return response
    if isinstance(response, Mapping):
        fields = cast("Mapping[str, object]", response)
        return verdict_of(fields.get("approved", fields.get("type")))
    if not isinstance(response, str):
        return None
    word = response.strip().casefold()
    return True if word in _YES | _ALSO_YES else False if word in _NO else None


def _refuse(prompt: Prompt, message: str, allowed: object) -> BadRequestError:
    return BadRequestError(message, details={"prompt_id": prompt.prompt_id, "allowed": allowed})


def _check_verdict(prompt: Prompt, response: object) -> bool:
    verdict = verdict_of(response)
    if verdict is None:
        raise _refuse(prompt, f"the answer is {_YES_OR_NO}, not {response!r:.80}", [True, False])
    return verdict


def _check_choice(prompt: Prompt, choices: Sequence[object], response: object) -> Any:
    for each in choices:
        if each == response and isinstance(each, bool) == isinstance(response, bool):
            return each
    for each in choices:
        if isinstance(response, str) and str(each) == response:
            return each
    shown = ", ".join(repr(each) for each in choices)
    raise _refuse(prompt, f"the answer is one of {shown:.500}, not {response!r:.80}", list(choices))


def _choices_of(prompt: Prompt) -> Sequence[object] | None:
    choices = prompt.data.get("choices")
    return cast("Sequence[object]", choices) if isinstance(choices, (list, tuple)) and choices else None


def _check_asked(prompt: Prompt, response: object) -> Any:
    data, choices = prompt.data, _choices_of(prompt)
    if response is None and data.get("required") is False:
        return data.get("default")
    is_approval = data.get("type") in ("approval", "confirmation")
    if choices is not None:
        if is_approval and len(choices) == 2 and response not in choices:  # noqa: PLR2004 (two buttons: yes and no)
            verdict = verdict_of(response)
            response = response if verdict is None else choices[0 if verdict else 1]
        return _check_choice(prompt, choices, response)
    if data.get("schema") is not None:
        return _check_value(prompt, response)
    if is_approval:
        return _check_verdict(prompt, response)
    if not isinstance(response, str):
        raise _refuse(prompt, f"the answer is a text, not {response!r:.80}", "a text")
    return response


def _check_value(prompt: Prompt, response: object) -> Any:
    schema, choices = prompt.data.get("schema"), _choices_of(prompt)
    if isinstance(schema, Mapping):
        found = cast("Mapping[str, Any]", schema)
        if errors := schema_errors(found, response):
            raise _refuse(prompt, "; ".join(errors), found)
    elif prompt.data.get("type") == "choice" and choices is not None:
        return _check_choice(prompt, choices, response)
    return response


def _check_decisions(prompt: Prompt, response: object) -> Any:
    review = read_review(prompt.data.get("value"))
    if review is None:
        return response
    fields: Mapping[str, Any] = cast("Mapping[str, Any]", response) if isinstance(response, Mapping) else {}
    is_decision = bool(fields) and fields.get("type") != "proceed"
    verdict = None if is_decision else verdict_of(fields or cast("object", response))
    schema = prompt.data.get("schema")
    try:
        return check_review(
            review,
            fields or cast("object", response),
            verdict=verdict,
            schema=cast("Mapping[str, Any]", schema) if isinstance(schema, Mapping) else None,
            tools=prompt.tools,
        )
    except DecisionError as error:
        allowed = [{"action": each.name, "decisions": list(each.allowed)} for each in review.actions]
        raise _refuse(prompt, str(error), allowed) from None


def _check_published(prompt: Prompt, response: object) -> Any:
    """Check only a choice: the program that asked reads the answer itself."""
    choices = _choices_of(prompt)
    if prompt.data.get("type") == "choice" and choices is not None:
        _check_choice(prompt, choices, response)
    return response
