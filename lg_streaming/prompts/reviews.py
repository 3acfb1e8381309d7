"""Reviews of tool calls: requests of LangChain's human-in-the-loop middleware, and the check of their decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from lg_streaming.prompts.json_schema import branches, schema_errors

__all__ = ["DecisionError", "Review", "check_review", "read_review"]

Form = Literal["batched", "list", "single"]
"""Form of a review. ``batched``: `{action_requests, review_configs}`. ``list``: the older list of
`{action_request, config, description}`. ``single``: `{type: "tool_approval", name, args}`."""

_ALL: Final = ("approve", "edit", "reject", "respond")
_OLD: Final = {"allow_accept": "accept", "allow_edit": "edit", "allow_respond": "response", "allow_ignore": "ignore"}
_OLD_WORDS: Final = {"approve": "accept", "reject": "ignore"}


class DecisionError(ValueError):
    """Decision that a review does not allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Tool call under review."""

    name: str
    args: object
    description: str = ""
    allowed: tuple[str, ...] = _ALL
    """Types of decisions that are allowed."""
    args_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """Tool calls under review, in one prompt."""

    form: Form
    actions: tuple[Action, ...]


def read_review(value: object) -> Review | None:
    """Return the review in an interrupt's value; None for any other value."""
    fields = _mapping(value)
    if fields is not None and fields.get("type") == "tool_approval" and isinstance(fields.get("name"), str):
        action = Action(name=fields["name"], args=fields.get("args"), description=_str(fields.get("description")))
        return Review(form="single", actions=(action,))
    if fields is not None and (requests := _mappings(fields.get("action_requests"))):
        configs = {_str(each.get("action_name")): each for each in _mappings(fields.get("review_configs"))}
        return Review(form="batched", actions=tuple(_action(each, configs) for each in requests))
    requests = _mappings(value)
    if requests and all(_mapping(each.get("action_request")) is not None for each in requests):
        return Review(form="list", actions=tuple(_old_action(each) for each in requests))
    return None


def _action(request: Mapping[str, Any], configs: Mapping[Any, Mapping[str, Any]]) -> Action:
    name = _str(request.get("name") or request.get("action"))
    config = configs.get(name, {})
    allowed = [each for each in _ALL if each in _list(config.get("allowed_decisions", _ALL))]
    return Action(
        name=name,
        args=request.get("args", request.get("arguments")),
        description=_str(request.get("description")),
        allowed=tuple(allowed) or _ALL,
        args_schema=_mapping(config.get("args_schema")),
    )


def _old_action(request: Mapping[str, Any]) -> Action:
    action, config = _mapping(request.get("action_request")) or {}, _mapping(request.get("config")) or {}
    return Action(
        name=_str(action.get("action") or action.get("name")),
        args=action.get("args"),
        description=_str(request.get("description")),
        allowed=tuple(word for key, word in _OLD.items() if config.get(key, False)),
    )


def check_review(
    review: Review,
    response: object,
    *,
    verdict: bool | None,
    schema: Mapping[str, Any] | None,
    tools: Mapping[str, Mapping[str, Any]] | None,
) -> Any:
    """Return the decisions, in the form that the middleware takes.

    Args:
        review: The review.
        response: The answer.
        verdict: The answer as yes or no, if it is one: it decides about all tool calls.
        schema: The JSON Schema of the answer, if the interrupt has one.
        tools: JSON Schemas of the arguments of the graph's tools, by name.

    Raises:
        DecisionError: If a decision is not allowed.
    """
    if verdict is not None:
        word = "approve" if verdict else "reject"
        decisions: list[object] = [{"type": word} for _ in review.actions]
        if review.form == "list":
            decisions = [{"type": _OLD_WORDS[word], "args": None} for _ in review.actions]
    else:
        decisions = _decisions(review, response)
    if len(decisions) != len(review.actions):
        names = ", ".join(each.name for each in review.actions)
        form = "a list of decisions" if review.form == "list" else '{"decisions": [{"type": …}, …]}'
        given = f", not {len(decisions)}" if isinstance(response, (Mapping, list)) else ""  # else it is no such form
        raise DecisionError(f"the answer is true, false or {form}: one for each of {names}{given}")
    for number, (action, decision) in enumerate(zip(review.actions, decisions, strict=True), 1):
        place = f"decision {number}, about {action.name}" if len(decisions) > 1 else f"the decision about {action.name}"
        if review.form == "single" and schema is not None:
            _check_by_schema(decision, schema, place)
        elif review.form == "list":
            _check_old(action, decision, place, tools)
        else:
            _check(action, decision, place, tools)
    match review.form:
        case "batched":
            return {"decisions": decisions}
        case "list":
            return decisions
        case "single":
            return decisions[0]


def _decisions(review: Review, response: object) -> list[object]:
    fields = _mapping(response)
    if review.form == "single":
        return [response]
    if fields is not None and "decisions" in fields:
        return _list(fields["decisions"])
    if fields is not None and "type" in fields:
        return [response]
    return _list(response)


def _check_type(decision: object, allowed: Sequence[str], place: str) -> Mapping[str, Any]:
    fields = _mapping(decision)
    if fields is None or fields.get("type") not in allowed:
        if fields is None:
            raise DecisionError(f"{place} is an object with a type of {', '.join(allowed)}, not {decision!r:.80}")
        raise DecisionError(f"{place} has a type of {', '.join(allowed)}, not {fields.get('type')!r:.80}")
    return fields


def _check(action: Action, decision: object, place: str, tools: Mapping[str, Mapping[str, Any]] | None) -> None:
    fields = _check_type(decision, action.allowed, place)
    match fields["type"]:
        case "edit":
            _check_edit(action, fields.get("edited_action"), "name", place, tools)
        case "respond" if not isinstance(fields.get("message"), str):
            raise DecisionError(f"{place} has a text in message")
        case "reject" if not isinstance(fields.get("message", ""), str):
            raise DecisionError(f"{place} has a text in message, or none")
        case _:
            pass


def _check_old(action: Action, decision: object, place: str, tools: Mapping[str, Mapping[str, Any]] | None) -> None:
    fields = _check_type(decision, action.allowed, place)
    if fields["type"] == "edit":
        _check_edit(action, fields.get("args"), "action", place, tools)
    elif fields["type"] == "response" and not isinstance(fields.get("args"), str):
        raise DecisionError(f"{place} has a text in args")


def _check_edit(
    action: Action, edited: object, key: str, place: str, tools: Mapping[str, Mapping[str, Any]] | None
) -> None:
    fields = _mapping(edited)
    name = fields.get(key) if fields is not None else None
    if fields is None or not isinstance(name, str) or _mapping(fields.get("args")) is None:
        field = "edited_action" if key == "name" else "args"
        raise DecisionError(f"{place} has the tool and its arguments in {field}: {{{key}, args}}")
    if tools is not None and name != action.name and name not in tools:
        raise DecisionError(f"{place} names the tool {name!r:.80}: the graph has {', '.join(sorted(tools))}")
    schema = action.args_schema if action.args_schema is not None and name == action.name else (tools or {}).get(name)
    if schema is not None and (errors := schema_errors(schema, fields["args"], name="args")):
        raise DecisionError(f"{place} has arguments that {name} does not take: {'; '.join(errors)}")


def _check_by_schema(decision: object, schema: Mapping[str, Any], place: str) -> None:
    by_type = {each.get("properties", {}).get("type", {}).get("const"): each for each in branches(schema)}
    fields = _check_type(decision, [each for each in by_type if isinstance(each, str)], place)
    if errors := schema_errors(by_type[fields["type"]], decision, name="decision", root=schema):
        raise DecisionError(f"{place} does not fit: {'; '.join(errors)}")


def _mapping(value: object) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None


def _list(value: object) -> list[object]:
    return list(cast("Sequence[object]", value)) if isinstance(value, Sequence) and not isinstance(value, str) else []


def _mappings(value: object) -> list[Mapping[str, Any]]:
    found = [_mapping(each) for each in _list(value)]
    return [each for each in found if each is not None] if None not in found else []


def _str(value: object) -> str:
    return value if isinstance(value, str) else ""
