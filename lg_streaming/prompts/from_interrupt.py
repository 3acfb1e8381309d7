"""Make a prompt from LangGraph's interrupt. LangGraph itself is not needed: its objects are read by their fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.events import Scope
from lg_streaming.prompts.prompt import ASKED, PROMPT_TYPES, Prompt
from lg_streaming.prompts.reviews import Review, read_review
from lg_streaming.values import to_json

if TYPE_CHECKING:
    from lg_streaming.prompts.prompt import PromptKind

__all__ = ["breakpoint_prompt", "deepest", "locate_prompts", "prompt_from_interrupt", "prompts_of_interrupts"]

_TEXT_KEYS: Final = ("prompt", "question", "message", "description", "text", "title")
_CHOICES_KEYS: Final = ("choices", "options")
_LONGEST_TEXT: Final = 2_000
"""Most characters of a text that is made from a value; the value itself is sent whole."""
_ASKED_FIELDS: Final = (
    *("prompt", "type", "choices", "timeout_s", "expires_at", "default", "required", "schema", "metadata", "error"),
)


def prompt_from_interrupt(
    interrupt_id: str,
    value: object,
    *,
    run_id: str | None = None,
    node_id: str | None = None,
    namespace: str | None = None,
    tool_call_id: str | None = None,
    schema: object = None,
    tools: Mapping[str, Mapping[str, Any]] | None = None,
) -> Prompt:
    """Return the prompt of an interrupt.

    Args:
        interrupt_id: The interrupt's id.
        value: The argument of ``interrupt()``.
        run_id: The run.
        node_id: The node that asks; the last one of ``namespace`` when not given.
        namespace: LangGraph's checkpoint namespace of the node.
        tool_call_id: The tool call that asks.
        schema: The interrupt's ``response_schema``.
        tools: JSON Schemas of the arguments of the graph's tools, by name.
    """
    kind, asked = _read(value)
    own_call = cast("Mapping[str, Any]", value).get("tool_call_id") if isinstance(value, Mapping) else None
    place = {
        "node_id": node_id or node_of(namespace),
        "namespace": namespace,
        "tool_call_id": tool_call_id or (own_call if isinstance(own_call, str) else None),
    }
    if isinstance(schema, Mapping) and "schema" not in asked:
        asked["schema"] = dict(cast("Mapping[str, Any]", schema))
    known = {name: each for name, each in place.items() if each is not None}
    shown: dict[str, object] = {} if kind == "asked" else {"value": value}
    return Prompt(
        prompt_id=interrupt_id,
        data={"prompt_id": interrupt_id, **asked, **known, **shown},
        scope=Scope(run_id=run_id).derive(**place),
        kind=kind,
        tools=tools,
    )


def _read(value: object) -> tuple[PromptKind, dict[str, Any]]:
    review = read_review(value)
    if review is not None:
        return "review", {"prompt": _review_text(review), "type": "approval"}
    if not isinstance(value, Mapping):
        return "interrupt", {"prompt": _text(value), "type": "input"}
    fields = cast("Mapping[str, Any]", value)
    if ASKED in fields and fields.get("type") in PROMPT_TYPES:
        return "asked", {name: fields[name] for name in _ASKED_FIELDS if name in fields}
    texts = (fields.get(key) for key in _TEXT_KEYS)
    text = next((each for each in texts if isinstance(each, str) and each), None)
    choices = next((fields[key] for key in _CHOICES_KEYS if _is_list(fields.get(key))), None)
    prompt_type = fields.get("type") if fields.get("type") in PROMPT_TYPES else "input" if choices is None else "choice"
    found: dict[str, Any] = {"prompt": _text(fields) if text is None else text, "type": prompt_type}
    return "interrupt", found if choices is None else {**found, "choices": list(choices)}


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _review_text(review: Review) -> str:
    texts = [each.description or f"Run {each.name} with {_text(each.args)}?" for each in review.actions]
    return "\n\n".join(texts)


def _text(value: object) -> str:
    """Return a value as readable text."""
    text = value if isinstance(value, str) else to_json(value).decode()
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def prompts_of_interrupts(interrupts: Sequence[Mapping[str, Any]], run_id: str) -> list[Prompt]:
    """Return one prompt for each of the interrupts that nodes reported, some of them several times.

    Args:
        interrupts: Interrupts, as ``{id, value, namespace?, tool_call_id?, schema?}``.
        run_id: The run.
    """
    prompts: list[Prompt] = []
    for interrupt_id, parts in _by_id(interrupts).items():
        first = parts[0]
        prompts.append(
            prompt_from_interrupt(
                interrupt_id,
                first.get("value"),
                run_id=run_id,
                namespace=deepest(*(each.get("namespace") for each in parts)),
                tool_call_id=_tool_call_of(parts),
                schema=first.get("schema"),
            )
        )
    return prompts


def breakpoint_prompt(checkpoint_id: str, next_nodes: Sequence[str], run_id: str) -> Prompt:
    """Return the prompt of a stop before or after a node.

    Args:
        checkpoint_id: The checkpoint at which the graph stopped.
        next_nodes: The nodes that come next; empty if they are unknown.
        run_id: The run.
    """
    node_id, prompt_id = next(iter(next_nodes), None), f"breakpoint-{checkpoint_id}"
    text = f"Continue with {', '.join(next_nodes)}?" if next_nodes else "Continue?"
    data = {"prompt_id": prompt_id, "prompt": text, "type": "confirmation", "value": {"next": list(next_nodes)}}
    if node_id is not None:
        data["node_id"] = node_id
    return Prompt(prompt_id=prompt_id, data=data, scope=Scope(run_id=run_id, node_id=node_id), kind="breakpoint")


def locate_prompts(prompts: Sequence[Prompt], interrupts: Sequence[Mapping[str, Any]]) -> list[Prompt]:
    """Return prompts with the node and the tool call of the interrupts that nodes reported, where those are deeper."""
    reported = _by_id(interrupts)
    return [_located(each, reported.get(each.prompt_id, [])) for each in prompts]


def _located(prompt: Prompt, parts: Sequence[Mapping[str, Any]]) -> Prompt:
    scope = prompt.scope
    namespace = deepest(scope.namespace, *(each.get("namespace") for each in parts))
    found = {
        "node_id": scope.node_id if namespace == scope.namespace else node_of(namespace),
        "namespace": namespace,
        "tool_call_id": scope.tool_call_id or _tool_call_of(parts),
    }
    known = {name: each for name, each in found.items() if each is not None}
    return replace(prompt, scope=scope.derive(**found), data={**prompt.data, **known})


def _tool_call_of(parts: Sequence[Mapping[str, Any]]) -> str | None:
    return next((each["tool_call_id"] for each in parts if each.get("tool_call_id")), None)


def _by_id(interrupts: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for each in interrupts:
        if isinstance(each.get("id"), str):
            found.setdefault(each["id"], []).append(each)
    return found


def node_of(namespace: str | None) -> str | None:
    """Return the node of a checkpoint namespace: ``research`` of ``team:1|research:2``."""
    return namespace.rsplit("|", 1)[-1].rsplit("/", 1)[-1].split(":", 1)[0] or None if namespace else None


def deepest(*namespaces: str | None) -> str | None:
    """Return the namespace with the most nodes; the first of equals."""
    return max((each for each in namespaces if each), key=lambda each: each.count("|"), default=None)
