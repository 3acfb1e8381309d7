"""One request to a model: what it answers, what it costs, and how it ended."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from lg_streaming.activity.base import Activity, check_name, is_interruption, known, number
from lg_streaming.activity.providers import LLMErrorType, error_type_of
from lg_streaming.activity.text import BoundedText
from lg_streaming.errors import BadRequestError, UpdateTooLargeError, describe_error

if TYPE_CHECKING:
    from datetime import datetime

    from lg_streaming.activity.states import LLMRequestState, LLMRequestStatus
    from lg_streaming.emitter import Emitter

__all__ = ["LLMRequest", "RequestOptions"]

_ERROR_TYPES: Final = frozenset[str](get_args(LLMErrorType))
_SHOWN_BYTES: Final = 32_768
"""Bytes of the response that go into ``llm_complete``; all of it went before, in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """What of a request is published and kept; see `LLMStream`."""

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


class LLMRequest(Activity):
    """One request to a model: tells what it answers, as updates like those of a model that is heard in a node.

    | step | from | to | publishes |
    |---|---|---|---|
    | made by `LLMStream.request` | | running | ``llm_start`` |
    | `token`, `thinking` | running | running | ``token``, ``thinking`` |
    | `tool_call` | running | running | ``tool_args``, ``tool_start`` |
    | `tool_result` | running | running | ``tool_complete``, ``tool_error`` |
    | `usage` | running | running | ``usage`` |
    | `completed` | running | completed | ``llm_complete`` |
    | `error` | running, retrying | failed, or retrying | ``llm_error`` |
    | `retried` | retrying | running | ``llm_start`` |

    Where a request is retrying, the steps that need running take `retried` first. Nothing follows completed and failed.

    The scope of each update has ``request_id`` and ``message_id``, and the ``task_id`` and ``agent_id`` that it was
    made with. A retry raises ``attempt`` there, so that readers start its text afresh.

    Use it as a context manager (``with`` or ``async with``): it is completed, or ends with an error, by how the block
    ends, unless the block ended it itself.

    Each step raises ``TransitionError`` where it cannot follow, ``BadRequestError`` for a value that cannot be used,
    and what `Emitter.event` raises; in all three cases the request is as it was. In a decorated node nothing raises:
    what is refused is logged.
    """

    __slots__ = ("_about", "_base", "_calls", "_indexes", "_most_bytes", "_options", "_response", "_started", "_state")

    def __init__(
        self, emitter: Emitter, state: LLMRequestState, started: Mapping[str, Any], options: RequestOptions
    ) -> None:
        super().__init__(emitter, f"request {state.request_id!r}")
        self._base = emitter
        self._options = options
        self._state = state
        self._about = known(model=state.model, provider=state.provider)
        self._started = started
        self._most_bytes = options.response_bytes
        self._begin()
        self._publish("llm_start", {**self._about, **started})

    def _begin(self) -> None:
        """A try begins, with nothing said yet."""
        self._response = BoundedText(self._most_bytes)
        self._calls: dict[str, _ToolCall] = {}
        self._indexes = {"token": itertools.count(), "thinking": itertools.count()}

    @property
    def request_id(self) -> str:
        """Its id."""
        return self._state.request_id

    @property
    def status(self) -> LLMRequestStatus:
        """Where it is."""
        return self._state.status

    @property
    def state(self) -> LLMRequestState:
        """What is known of it now."""
        return self._state

    @property
    def truncated(self) -> bool:
        """Whether `full_response` lacks the end of the text, since there is more than ``response_bytes``."""
        return self._response.truncated

    def full_response(self) -> str:
        """The text of the present try, from its beginning; see `truncated`. It stays after the end."""
        with self._lock:
            return str(self._response)

    # --- the steps ------------------------------------------------------------------------------------------

    def token(self, content: str, *, finish_reason: str | None = None) -> None:
        """A piece of the answer. An empty one is not sent.

        Args:
            content: The text.
            finish_reason: Where the model says why it ends: ``stop``, ``length``, ``tool_use``, ``content_filter`` or
                its own word. It is in this piece, with ``is_final``, and in ``llm_complete``.
        """
        with self._refusing:
            self._run("token")
            _check_text(content)
            if content:
                last = known(finish_reason=finish_reason, is_final=None if finish_reason is None else True)
                self._say("token", content, last)
                self._response.add(content)
            reason = finish_reason or self._state.finish_reason
            self._state = replace(self._state, tokens=self._state.tokens + bool(content), finish_reason=reason)

    def thinking(self, content: str) -> None:
        """A piece of the model's reasoning."""
        with self._refusing:
            self._run("thinking")
            _check_text(content)
            if content:
                self._say("thinking", content, {})

    def tool_call(
        self,
        tool_call_id: str,
        tool: str,
        arguments: str | Mapping[str, Any] | None = None,
        *,
        is_complete: bool = True,
    ) -> None:
        """The model calls a tool.

        Args:
            tool_call_id: Names the call.
            tool: The tool's name.
            arguments: All of them as a mapping, or a piece of their JSON, which goes after the pieces before it.
            is_complete: False: more will come. A piece leaves as ``tool_args``; when all are there, ``tool_start`` has
                them as ``input`` (the text itself, where it is not JSON).
        """
        with self._refusing:
            self._run("tool_call")
            check_name(tool_call_id, "tool_call_id")
            check_name(tool, "tool")
            call = self._calls.get(tool_call_id) or _ToolCall(
                tool=tool, index=len(self._calls), arguments=BoundedText(self._most_bytes)
            )
            if call.began_at is not None:
                raise BadRequestError(f"the call {tool_call_id!r} is complete already: take another id")
            if isinstance(arguments, str) and arguments:
                if call.pieces or not is_complete:
                    self._say_arguments(tool_call_id, call, arguments)
                call.arguments.add(arguments)
                call.pieces += 1
            if is_complete:
                given = (
                    _input_of(call) if arguments is None or isinstance(arguments, str) else {"input": dict(arguments)}
                )
                self._say_tool("tool_start", tool_call_id, {"tool": tool, "tool_call_id": tool_call_id, **given})
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
        """What a tool gave: ``tool_complete`` with the result as ``output``, or ``tool_error``.

        Args:
            tool_call_id: Names the call.
            result: Anything.
            tool: The tool's name, where `tool_call` did not say it.
            duration_s: Seconds it took; since the call was complete when not given.
            error: What went wrong, where something did.
        """
        with self._refusing:
            self._run("tool_result")
            check_name(tool_call_id, "tool_call_id")
            call = self._calls.get(tool_call_id)
            name = tool or (call.tool if call is not None else None)
            if name is None:
                raise BadRequestError(f"the call {tool_call_id!r} is not known: say tool=…, or tool_call() before it")
            if duration_s is None:
                duration_s = self._seconds_since(call.began_at) if call is not None else None
            else:
                number(duration_s, "duration_s", least=0)
            about = {"tool": name, "tool_call_id": tool_call_id, **known(duration_s=duration_s)}
            if error is None:
                self._say_tool("tool_complete", tool_call_id, {**about, "output": result})
            else:
                described = describe_error(error, debug=self._emitter.debug)
                self._say_tool("tool_error", tool_call_id, {**about, "error": described})
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
        """What it took so far; each figure replaces the one before.

        Args:
            input_tokens: Tokens of the question.
            output_tokens: Tokens of the answer.
            total_tokens: The sum of both when not given.
            prompt_tokens: Another name for ``input_tokens``.
            completion_tokens: Another name for ``output_tokens``.
            cost: In your currency.
            cost_breakdown: The parts of the cost.
        """
        with self._refusing:
            self._run("usage")
            given = {
                "input_tokens": input_tokens if input_tokens is not None else prompt_tokens,
                "output_tokens": output_tokens if output_tokens is not None else completion_tokens,
                "total_tokens": total_tokens,
                "cost": cost,
            }
            figures = {
                name: number(value, name, least=0, whole=name != "cost") for name, value in known(**given).items()
            }
            merged = {**self._state.usage, **figures}
            if total_tokens is None:
                merged["total_tokens"] = merged.get("input_tokens", 0) + merged.get("output_tokens", 0)
            if cost_breakdown is not None:
                merged["cost_breakdown"] = {name: number(value, name) for name, value in cost_breakdown.items()}
            if self._options.include_usage:
                self._publish("usage", {**self._about, **merged})
            self._state = replace(self._state, usage=merged)

    def completed(self, response: str | None = None, *, finish_reason: str | None = None) -> None:
        """The answer is complete.

        ``llm_complete`` has ``response`` (up to 32 KiB of it; then ``response_truncated`` says that there is more),
        ``finish_reason``, ``usage``, ``tool_calls`` ``[{tool_call_id, tool}]`` and ``duration_s``, where known.

        Args:
            response: The whole text, where it was not said in tokens.
            finish_reason: Why it ended, where no token said it.
        """
        with self._refusing:
            self._run("completed")
            if response is not None:
                _check_text(response)
                self._response = BoundedText(self._most_bytes)
                self._response.add(response)
            reason = finish_reason or self._state.finish_reason
            calls = [{"tool_call_id": call, "tool": tool} for call, tool in self._state.tool_calls.items()]
            told = known(
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
                self._publish("llm_complete", {**self._about, **answer, **told})
            except UpdateTooLargeError:  # the limit may be lower than usual
                shorter = {**self._about, **answer, "response_truncated": True, **told}
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
        """A try failed.

        Args:
            error: What went wrong.
            error_type: What kind of thing; when not given, told from the exception's HTTP status and class where that
                can be.
            code: The provider's own code.
            will_retry: True: it is going to be tried again, and goes on with `retried`. False: that was the end.
            retry_attempt: The number of the coming try, from 1; counted when not given.
        """
        with self._refusing:
            self._require("error", self._state.status, {"running", "retrying"})
            kind = error_type or (error_type_of(error) if isinstance(error, BaseException) else None)
            if kind is not None and kind not in _ERROR_TYPES:
                raise BadRequestError(f"{kind!r:.80} is not one of {', '.join(get_args(LLMErrorType))}")
            failures = self._state.failures + 1
            described = describe_error(error, debug=self._emitter.debug)
            attempt = failures if retry_attempt is None else retry_attempt
            told = known(error_type=kind, code=code, retry_attempt=attempt if will_retry else None)
            took = known(duration_s=self._seconds_since(self._state.started_at))
            self._publish("llm_error", {**self._about, "error": described, **told, "will_retry": will_retry, **took})
            self._state = replace(
                self._state, status="retrying" if will_retry else "failed", failures=failures, error=described
            )
            if not will_retry:
                self._state = replace(self._state, ended_at=self._now())
                self._end()

    def retried(self) -> None:
        """The next try begins: what the one before said is thrown away, by readers too."""
        with self._refusing:
            self._require("retried", self._state.status, {"retrying"})
            self._retry()

    # --- as a block -----------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """It began when it was made."""

    def _leave(self, error: BaseException | None) -> None:
        if self._ended:
            return
        if error is None:
            self.completed()
        elif is_interruption(error):
            self.error(type(error).__name__)
        else:
            self.error(error)

    # --- below ----------------------------------------------------------------------------------------------

    def _run(self, step: str) -> None:
        """For the steps of a request that is being answered."""
        self._require(step, self._state.status, {"running", "retrying"})
        if self._state.status == "retrying":
            self._retry()

    def _retry(self) -> None:
        before = self._emitter
        self._emitter = self._base.scoped(attempt=(self._base.scope.attempt or 1) + self._state.failures)
        try:
            self._publish("llm_start", {**self._about, **self._started, "retry_attempt": self._state.failures})
        except BaseException:
            self._emitter = before
            raise
        self._begin()
        self._state = replace(self._state, status="running", tokens=0, usage={}, tool_calls={}, finish_reason=None)

    def _say(self, kind: Literal["token", "thinking"], content: str, more: Mapping[str, Any]) -> None:
        if self._options.include_tokens:
            data = {"content": content, "index": next(self._indexes[kind]), "role": "ai", **more}
            self._emitter.publish_text(kind, {**data, "metadata": self._about}, self._emitter.scope)

    def _say_arguments(self, tool_call_id: str, call: _ToolCall, piece: str) -> None:
        if self._options.include_tool_calls:
            named = {} if call.pieces else {"tool": call.tool}
            data = {"tool_call_id": tool_call_id, **named, "args": piece, "index": call.index}
            self._emitter.publish_text("tool_args", data, self._emitter.scope)

    def _say_tool(self, type: str, tool_call_id: str, data: Mapping[str, Any]) -> None:
        if self._options.include_tool_calls:
            self._emitter.scoped(tool_call_id=tool_call_id).event(type, data)


def _check_text(content: object) -> None:
    if not isinstance(content, str):
        raise BadRequestError(f"text is a string, not {type(content).__name__}")


def _input_of(call: _ToolCall) -> dict[str, Any]:
    """The arguments of a complete call, as they were told in pieces."""
    text = str(call.arguments)
    if call.arguments.truncated:
        return {"input_truncated": True}
    if not text:
        return {"input": {}}
    try:
        return {"input": json.loads(text)}  # orjson makes a float of a whole number of more than 64 bits
    except (ValueError, RecursionError):
        return {"input": text}
