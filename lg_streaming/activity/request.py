"""One request to a model: its answer, its tool calls, its usage and its end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from lg_streaming.activity.base import Activity, check_name, drop_none, is_interruption, number
from lg_streaming.activity.providers import LLMErrorType, classify_error
from lg_streaming.activity.states import LLMRequestState
from lg_streaming.activity.text import BoundedText
from lg_streaming.errors import BadRequestError, UpdateTooLargeError, describe_error

if TYPE_CHECKING:
    from datetime import datetime

    from lg_streaming.activity.states import LLMRequestStatus
    from lg_streaming.emitter import Emitter

__all__ = ["LLMRequest", "RequestOptions"]

_ERROR_TYPES: Final = frozenset[str](get_args(LLMErrorType))
_SHOWN_BYTES: Final = 32_768
"""Bytes of the response in ``llm_complete``; tokens published all of it before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """The parts of a request that are published and kept; see `LLMStream`."""

    include_tokens: bool
    include_tool_calls: bool
    include_usage: bool
    response_bytes: int


@dataclass(slots=True, kw_only=True)
class _ToolCall:
    tool: str
    index: int
    arguments: BoundedText
    pieces: int = 0
    began_at: datetime | None = None


class LLMRequest(Activity[LLMRequestState]):
    """One request to a model, published in the same updates as a model that is captured in a node.

    | step | from | to | publishes |
    |---|---|---|---|
    | created by `LLMStream.request` | | running | ``llm_start`` |
    | `token`, `thinking` | running | running | ``token``, ``thinking`` |
    | `tool_call` | running | running | ``tool_args``, ``tool_start`` |
    | `tool_result` | running | running | ``tool_complete``, ``tool_error`` |
    | `usage` | running | running | ``usage`` |
    | `completed` | running | completed | ``llm_complete`` |
    | `error` | running, retrying | failed, or retrying | ``llm_error`` |
    | `retried` | retrying | running | ``llm_start`` |

    Where a request is retrying, the steps that need running take `retried` first. Nothing follows completed and failed.

    The scope of each update has ``request_id`` and ``message_id``, and the ``task_id`` and ``agent_id`` of the request.
    A retry raises ``attempt`` there, so that readers discard the text of the attempt before.

    Use it as a context manager (``with`` or ``async with``): the end of the block completes it, or publishes the error,
    unless the block ended it.

    A step raises ``TransitionError`` where it is not legal, ``BadRequestError`` for an invalid value, and the errors of
    `Emitter.event`. It then leaves the request unchanged. In a decorated node no step raises: a rejection is logged.
    """

    __slots__ = ("_base", "_calls", "_indexes", "_model", "_options", "_response", "_started")

    def __init__(
        self, emitter: Emitter, state: LLMRequestState, started: Mapping[str, Any], options: RequestOptions
    ) -> None:
        super().__init__(emitter, f"request {state.request_id!r}")
        self._base = emitter
        self._options = options
        self._state = state
        self._model = drop_none(model=state.model, provider=state.provider)
        self._started = started
        self._reset_attempt()
        self._publish("llm_start", {**self._model, **started})

    def _reset_attempt(self) -> None:
        """Begin an attempt, without text and tool calls."""
        self._response = BoundedText(self._options.response_bytes)
        self._calls: dict[str, _ToolCall] = {}
        self._indexes = {"token": itertools.count(), "thinking": itertools.count()}

    @property
    def request_id(self) -> str:
        """Return its id."""
        return self._state.request_id

    @property
    def status(self) -> LLMRequestStatus:
        """Return its status."""
        return self._state.status

    @property
    def truncated(self) -> bool:
        """Return whether `full_response` lacks the end of the text, which has more than ``response_bytes``."""
        return self._response.truncated

    def full_response(self) -> str:
        """Return the text of the present attempt, from its beginning; see `truncated`. It stays after the end."""
        with self._lock:
            return str(self._response)

    # --- the steps ------------------------------------------------------------------------------------------

    def token(self, content: str, *, finish_reason: str | None = None) -> None:
        """Publish a piece of the answer, unless it is empty.

        Args:
            content: The text.
            finish_reason: The reason of the last piece: ``stop``, ``length``, ``tool_use``, ``content_filter`` or
                another word. It is in this update, with ``is_final``, and in ``llm_complete``.
        """
        with self._guard:
            self._ensure_running("token")
            _check_text(content)
            if content:
                last = drop_none(finish_reason=finish_reason, is_final=None if finish_reason is None else True)
                self._emit_text("token", content, last)
                self._response.add(content)
            reason = finish_reason or self._state.finish_reason
            self._state = replace(self._state, tokens=self._state.tokens + bool(content), finish_reason=reason)

    def thinking(self, content: str) -> None:
        """Publish a piece of the model's reasoning."""
        with self._guard:
            self._ensure_running("thinking")
            _check_text(content)
            if content:
                self._emit_text("thinking", content, {})

    def tool_call(
        self,
        tool_call_id: str,
        tool: str,
        arguments: str | Mapping[str, Any] | None = None,
        *,
        is_complete: bool = True,
    ) -> None:
        """Publish a call of a tool.

        Args:
            tool_call_id: The id of the call.
            tool: The tool's name.
            arguments: All of them as a mapping, or the next piece of their JSON.
            is_complete: False where more pieces follow. A piece is published as ``tool_args``. After the last one
                ``tool_start`` has all arguments as ``input`` (the text itself, where it is not JSON).
        """
        with self._guard:
            self._ensure_running("tool_call")
            check_name(tool_call_id, "tool_call_id")
            check_name(tool, "tool")
            call = self._calls.get(tool_call_id) or _ToolCall(
                tool=tool, index=len(self._calls), arguments=BoundedText(self._options.response_bytes)
            )
            if call.began_at is not None:
                raise BadRequestError(f"the call {tool_call_id!r} is complete already: take another id")
            if isinstance(arguments, str) and arguments:
                if call.pieces or not is_complete:
                    self._emit_arguments(tool_call_id, call, arguments)
                call.arguments.add(arguments)
                call.pieces += 1
            if is_complete:
                parsed = {"input": dict(arguments)} if isinstance(arguments, Mapping) else _parse_input(call)
                self._emit_tool("tool_start", tool_call_id, {"tool": tool, "tool_call_id": tool_call_id, **parsed})
                call.began_at = self._now()
            self._calls[tool_call_id] = call
            self._state = replace(self._state, tool_calls={**self._state.tool_calls, tool_call_id: tool})

    def tool_result(
        self,
        tool_call_id: str,
        result: object = None,
        *,
        tool: str | None = None,
        duration_s: float | None = None,
        error: BaseException | str | None = None,
    ) -> None:
        """Publish the result of a tool: ``tool_complete`` with the result as ``output``, or ``tool_error``.

        Args:
            tool_call_id: The id of the call.
            result: Any value.
            tool: The tool's name, where no `tool_call` gave it.
            duration_s: Seconds it took; since the call was complete when not given.
            error: The error, where it failed.
        """
        with self._guard:
            self._ensure_running("tool_result")
            check_name(tool_call_id, "tool_call_id")
            call = self._calls.get(tool_call_id)
            name = tool or (call.tool if call is not None else None)
            if name is None:
                raise BadRequestError(f"the call {tool_call_id!r} is unknown: give tool=…, or call tool_call() before")
            if duration_s is None:
                duration_s = self._seconds_since(call.began_at) if call is not None else None
            else:
                number(duration_s, "duration_s", least=0)
            fields = {"tool": name, "tool_call_id": tool_call_id, **drop_none(duration_s=duration_s)}
            if error is None:
                self._emit_tool("tool_complete", tool_call_id, {**fields, "output": result})
            else:
                described = describe_error(error, debug=self._emitter.debug)
                self._emit_tool("tool_error", tool_call_id, {**fields, "error": described})
            self._state = replace(self._state, tool_calls={**self._state.tool_calls, tool_call_id: name})

    def usage(
        self,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        total_tokens: int | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        cost: float | None = None,
        cost_breakdown: Mapping[str, float] | None = None,
    ) -> None:
        """Publish the usage so far; each value replaces the one before.

        Args:
            input_tokens: Tokens of the question.
            output_tokens: Tokens of the answer.
            total_tokens: The sum of both when not given.
            prompt_tokens: Another name for ``input_tokens``.
            completion_tokens: Another name for ``output_tokens``.
            cost: In your currency.
            cost_breakdown: The parts of the cost.
        """
        with self._guard:
            self._ensure_running("usage")
            values = {
                "input_tokens": input_tokens if input_tokens is not None else prompt_tokens,
                "output_tokens": output_tokens if output_tokens is not None else completion_tokens,
                "total_tokens": total_tokens,
                "cost": cost,
            }
            changed = {
                name: number(value, name, least=0, whole=name != "cost") for name, value in drop_none(**values).items()
            }
            merged = {**self._state.usage, **changed}
            if total_tokens is None:
                merged["total_tokens"] = merged.get("input_tokens", 0) + merged.get("output_tokens", 0)
            if cost_breakdown is not None:
                merged["cost_breakdown"] = {name: number(value, name) for name, value in cost_breakdown.items()}
            if self._options.include_usage:
                self._publish("usage", {**self._model, **merged})
            self._state = replace(self._state, usage=merged)

    def completed(self, response: str | None = None, *, finish_reason: str | None = None) -> None:
        """Publish that the answer is complete.

        ``llm_complete`` has ``response``, ``finish_reason``, ``usage``, ``tool_calls`` ``[{tool_call_id, tool}]`` and
        ``duration_s``, where known. ``response`` has at most 32 KiB; ``response_truncated`` marks a longer one.

        Args:
            response: The whole text, where no tokens published it.
            finish_reason: The reason of the end, where no token had it.
        """
        with self._guard:
            self._ensure_running("completed")
            if response is not None:
                _check_text(response)
                self._response = BoundedText(self._options.response_bytes)
                self._response.add(response)
            reason = finish_reason or self._state.finish_reason
            calls = [{"tool_call_id": call, "tool": tool} for call, tool in self._state.tool_calls.items()]
            fields = drop_none(
                finish_reason=reason,
                usage=(self._state.usage if self._options.include_usage else None) or None,
                tool_calls=(calls if self._options.include_tool_calls else None) or None,
                duration_s=self._seconds_since(self._state.started_at),
            )
            shown = BoundedText(_SHOWN_BYTES)
            shown.add(str(self._response))
            answer: dict[str, Any] = {"response": str(shown)}
            if shown.truncated or self._response.truncated:
                answer["response_truncated"] = True
            try:
                self._publish("llm_complete", {**self._model, **answer, **fields})
            except UpdateTooLargeError:  # the limit may be lower than usual
                shorter = {**self._model, **answer, "response_truncated": True, **fields}
                self._emitter.event("llm_complete", shorter, large="shorten")
            self._state = replace(self._state, status="completed", finish_reason=reason, ended_at=self._now())
            self._end()

    def error(
        self,
        error: BaseException | str,
        *,
        error_type: LLMErrorType | None = None,
        code: str | int | None = None,
        will_retry: bool = False,
        retry_attempt: int | None = None,
    ) -> None:
        """Publish that an attempt failed.

        Args:
            error: The error.
            error_type: The kind of error; when not given, derived from the exception's HTTP status and class where
                possible.
            code: The provider's code.
            will_retry: True where another attempt follows, which begins with `retried`. False ends the request.
            retry_attempt: The number of the next attempt, from 1; counted when not given.
        """
        with self._guard:
            self._require("error", self._state.status, {"running", "retrying"})
            kind = error_type or (classify_error(error) if isinstance(error, BaseException) else None)
            if kind is not None and kind not in _ERROR_TYPES:
                raise BadRequestError(f"{kind!r:.80} is not one of {', '.join(get_args(LLMErrorType))}")
            failures = self._state.failures + 1
            described = describe_error(error, debug=self._emitter.debug)
            attempt = failures if retry_attempt is None else retry_attempt
            fields = drop_none(error_type=kind, code=code, retry_attempt=attempt if will_retry else None)
            took = drop_none(duration_s=self._seconds_since(self._state.started_at))
            self._publish("llm_error", {**self._model, "error": described, **fields, "will_retry": will_retry, **took})
            self._state = replace(
                self._state, status="retrying" if will_retry else "failed", failures=failures, error=described
            )
            if not will_retry:
                self._state = replace(self._state, ended_at=self._now())
                self._end()

    def retried(self) -> None:
        """Begin the next attempt: readers discard the text of the one before."""
        with self._guard:
            self._require("retried", self._state.status, {"retrying"})
            self._retry()

    # --- as a block -----------------------------------------------------------------------------------------

    def _on_enter(self) -> None:
        """Do nothing: the request began when it was created."""

    def _on_exit(self, error: BaseException | None) -> None:
        if self._ended:
            return
        if error is None:
            self.completed()
        elif is_interruption(error):
            self.error(type(error).__name__)
        else:
            self.error(error)

    # --- internal ----------------------------------------------------------------------------------------------

    def _ensure_running(self, step: str) -> None:
        """Begin the next attempt where one has failed; reject a step after the end."""
        self._require(step, self._state.status, {"running", "retrying"})
        if self._state.status == "retrying":
            self._retry()

    def _retry(self) -> None:
        before = self._emitter
        self._emitter = self._base.scoped(attempt=(self._base.scope.attempt or 1) + self._state.failures)
        try:
            self._publish("llm_start", {**self._model, **self._started, "retry_attempt": self._state.failures})
        except BaseException:
            self._emitter = before
            raise
        self._reset_attempt()
        self._state = replace(self._state, status="running", tokens=0, usage={}, tool_calls={}, finish_reason=None)

    def _emit_text(self, kind: Literal["token", "thinking"], content: str, more: Mapping[str, Any]) -> None:
        if self._options.include_tokens:
            data = {"content": content, "index": next(self._indexes[kind]), "role": "ai", **more}
            self._emitter.publish_text(kind, {**data, "metadata": self._model}, self._emitter.scope)

    def _emit_arguments(self, tool_call_id: str, call: _ToolCall, piece: str) -> None:
        if self._options.include_tool_calls:
            named = {} if call.pieces else {"tool": call.tool}
            data = {"tool_call_id": tool_call_id, **named, "args": piece, "index": call.index}
            self._emitter.publish_text("tool_args", data, self._emitter.scope)

    def _emit_tool(self, type: str, tool_call_id: str, data: Mapping[str, Any]) -> None:
        if self._options.include_tool_calls:
            self._emitter.scoped(tool_call_id=tool_call_id).event(type, data)


def _check_text(content: object) -> None:
    if not isinstance(content, str):
        raise BadRequestError(f"text is a string, not {type(content).__name__}")


def _parse_input(call: _ToolCall) -> dict[str, Any]:
    """Return the arguments of a complete call, parsed from their pieces."""
    text = str(call.arguments)
    if call.arguments.truncated:
        return {"input_truncated": True}
    if not text:
        return {"input": {}}
    try:
        return {"input": json.loads(text)}  # orjson makes a float of a whole number of more than 64 bits
    except (ValueError, RecursionError):
        return {"input": text}
