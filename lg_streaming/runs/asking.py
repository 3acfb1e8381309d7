"""Ask a human in a node or a tool: `human_prompt`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, get_args

from langgraph.types import interrupt
from pydantic import TypeAdapter, ValidationError

from lg_streaming.checks import seconds
from lg_streaming.context import current_frame
from lg_streaming.errors import BadRequestError, PromptTimeoutError, StreamingConfigError
from lg_streaming.prompts import ASKED, PROMPT_TYPES, TIMED_OUT, PromptType, check_answer, prompt_from_interrupt

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["human_prompt", "human_prompt_sync"]

_TIMEOUT: Final = seconds(none="no timeout")
_VERSION: Final = 1


class _Unset:
    """Mark of an argument that was not passed."""


_UNSET: Final = _Unset()


class _Answer(Awaitable[Any]):
    """Answer of `human_prompt`. It is awaited, so that a node cannot take the call itself for a yes."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the answer."""
        yield from ()
        return self._value

    def __bool__(self) -> NoReturn:
        """Refuse to be taken for the answer."""
        raise TypeError("await human_prompt(…); in a sync node call human_prompt_sync(…)")


def human_prompt(
    prompt: str,
    *,
    type: PromptType | None = None,
    choices: Sequence[Any] | None = None,
    timeout: float | None = None,
    default: Any = _UNSET,
    schema: Any = None,
    required: bool = True,
    metadata: Mapping[str, Any] | None = None,
) -> Awaitable[Any]:
    """Ask a human in an async node or tool, and return the answer when it is awaited.

    ``if await human_prompt("Send it?", type="approval"): …``

    The graph pauses at LangGraph's ``interrupt()``, so that it needs a checkpointer, and the node starts again from its
    beginning when the answer is there. An answer that does not fit asks again.

    Args:
        prompt: The question.
        type: ``approval`` and ``confirmation``: the answer is a boolean, unless there are choices. ``choice``: one of
            the choices. ``input``: a text, or a value that fits ``schema``. When not given, ``choice`` with choices,
            else ``input``.
        choices: The answers to choose from.
        timeout: Seconds to wait for an answer; None for no limit. It runs in the process that runs the graph.
        default: The answer after the timeout.
        schema: A JSON Schema, or a type that pydantic knows, such as a model; the answer is then an instance of it.
        required: False: ``null`` is an answer too, and gives the default.
        metadata: More fields for the page that asks, as JSON.

    Raises:
        PromptTimeoutError: If there is no answer in time, and no default.
        BadRequestError: If an argument cannot be used.
        StreamingConfigError: If it is called outside of a node or a tool of a graph.
    """
    answer = human_prompt_sync(
        prompt,
        type=type,
        choices=choices,
        timeout=timeout,
        default=default,
        schema=schema,
        required=required,
        metadata=metadata,
    )
    return _Answer(answer)


def human_prompt_sync(
    prompt: str,
    *,
    type: PromptType | None = None,
    choices: Sequence[Any] | None = None,
    timeout: float | None = None,
    default: Any = _UNSET,
    schema: Any = None,
    required: bool = True,
    metadata: Mapping[str, Any] | None = None,
) -> Any:
    """Ask a human in a sync node or tool, and return the answer. See `human_prompt`."""
    prompt_type = type or ("choice" if choices is not None else "input")
    if prompt_type not in PROMPT_TYPES:
        raise BadRequestError(f"a prompt's type is one of {', '.join(get_args(PromptType))}, not {type!r:.80}")
    if prompt_type == "choice" and not choices:
        raise BadRequestError("a prompt of type choice needs choices: pass choices=[…]")
    _TIMEOUT.check("timeout", timeout, BadRequestError)
    adapter = None if schema is None or isinstance(schema, Mapping) else TypeAdapter[Any](schema)
    frame = current_frame()
    optional: dict[str, Any] = {
        "choices": list(choices) if choices is not None else None,
        "timeout_s": timeout,
        "expires_at": time.time() + timeout if timeout is not None else None,
        "schema": adapter.json_schema() if adapter is not None else schema,
        "metadata": dict(metadata) if metadata is not None else None,
        "tool_call_id": frame.scope.tool_call_id if frame is not None else None,
    }
    asked: dict[str, Any] = {ASKED: _VERSION, "prompt": prompt, "type": prompt_type, "required": required}
    asked |= {name: value for name, value in optional.items() if value is not None}
    if not isinstance(default, _Unset):
        asked["default"] = default
    return _wait_for_fitting(asked, adapter)


def _wait_for_fitting(asked: dict[str, Any], adapter: TypeAdapter[Any] | None) -> Any:
    """Return the first answer that fits. LangGraph gives the earlier ones again, in the same order."""
    while True:
        answer = _interrupt(asked)
        if isinstance(answer, Mapping) and TIMED_OUT in answer:
            raise PromptTimeoutError(f"{asked['prompt']!r:.80} had no answer within {asked.get('timeout_s'):g} s")
        if answer is None and not asked["required"]:
            return asked.get("default")
        try:
            return _read(asked, answer, adapter)
        except BadRequestError as error:
            asked = {**asked, "error": error.message}


def _read(asked: dict[str, Any], answer: Any, adapter: TypeAdapter[Any] | None) -> Any:
    if "default" in asked and answer == asked["default"]:
        return answer
    checked = check_answer(prompt_from_interrupt("", asked), answer)
    if adapter is None:
        return checked
    try:
        return adapter.validate_python(checked)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, each['loc'])) or 'the answer'}: {each['msg']}" for each in error.errors()[:5]]
        raise BadRequestError("; ".join(found)) from None


def _interrupt(asked: Mapping[str, Any]) -> Any:
    try:
        return interrupt(asked)
    except (RuntimeError, KeyError) as error:
        raise StreamingConfigError(
            "human_prompt() pauses a graph: call it in a node or a tool of a graph that streaming.runs started; "
            "elsewhere publish a prompt with emitter.human_prompt(…)"
        ) from error
