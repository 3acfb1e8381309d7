"""The requests to models of an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lg_streaming.activity.base import drop_none, id_or_new, number, value_or_default
from lg_streaming.activity.providers import tool_name
from lg_streaming.activity.registry import Registry
from lg_streaming.activity.request import LLMRequest, RequestOptions
from lg_streaming.activity.states import LLMRequestState
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lg_streaming.emitter import Emitter

__all__ = ["LLMStream"]

_RESPONSE_BYTES: Final = 1_048_576


class LLMStream(Registry[LLMRequest]):
    """The open requests to models of an emitter's execution, by id. A request that has ended is forgotten.

    Args:
        emitter: Where they are told.
        include_tokens: False: text is kept and not published, but for ``response`` in ``llm_complete``.
        include_tool_calls: False: tool calls and results are not published.
        include_usage: False: usage is not published.
        include_messages: True: ``llm_start`` has the messages and the system prompt. They may hold what readers must
            not see, so by default they do not leave.
        response_bytes: Bytes of a request's text that are kept for `LLMRequest.full_response`. What is streamed is not
            bounded by it.

    Raises:
        BadRequestError: ``response_bytes`` cannot be used.
    """

    def __init__(
        self,
        emitter: Emitter,
        *,
        include_tokens: bool = True,
        include_tool_calls: bool = True,
        include_usage: bool = True,
        include_messages: bool = False,
        response_bytes: int = _RESPONSE_BYTES,
    ) -> None:
        super().__init__(emitter, "request")
        most = value_or_default(
            emitter, lambda: int(number(response_bytes, "response_bytes", least=0)), _RESPONSE_BYTES
        )
        self._include_messages = include_messages
        self._options = RequestOptions(
            include_tokens=include_tokens,
            include_tool_calls=include_tool_calls,
            include_usage=include_usage,
            response_bytes=most,
        )

    def request(
        self,
        *,
        model: str | None = None,
        provider: str | None = None,
        agent_id: str | None = None,
        task_id: str | None = None,
        messages: object = None,
        system_prompt: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        tools: Iterable[Any] | None = None,
        request_id: str | None = None,
        message_id: str | None = None,
    ) -> LLMRequest:
        """A request begins: publishes ``llm_start``.

        Args:
            model: Its name.
            provider: Whose it is; any word.
            agent_id: Who asks.
            task_id: What it is asked for.
            messages: What is asked; published only with ``include_messages``.
            system_prompt: The same.
            parameters: Such as the temperature; they are published.
            tools: What the model may call; their names are published.
            request_id: 1 to 256 characters; made when not given.
            message_id: Names the answer to readers; the request's id when not given.

        Raises:
            BadRequestError: An id cannot be used.
            TransitionError: A request of that id is open, or this was closed.
        """
        request_id = id_or_new(self._emitter, request_id, "request_id")
        asked = drop_none(messages=messages, system_prompt=system_prompt) if self._include_messages else {}
        started = drop_none(
            message_id=message_id or request_id,
            agent_id=agent_id,
            task_id=task_id,
            parameters=None if parameters is None else dict(parameters),
            tools=None if tools is None else [tool_name(tool) for tool in tools],
            **asked,
        )

        def make(emitter: Emitter) -> LLMRequest:
            about: dict[str, Any] = {
                "request_id": request_id,
                "message_id": message_id or request_id,
                "attempt": emitter.scope.attempt or 1,  # said from the start, so that readers see it rise
                **drop_none(task_id=task_id),
            }
            if agent_id is not None:
                about["extra"] = {**(emitter.scope.extra or {}), "agent_id": agent_id}
            scoped = emitter.scoped(**about)
            state = LLMRequestState(
                request_id=request_id,
                model=model,
                provider=provider,
                agent_id=agent_id,
                task_id=task_id,
                started_at=current_timer().now,
            )
            return LLMRequest(scoped, state, started, self._options)

        return self._add(request_id, make)

    def state(self, request_id: str) -> LLMRequestState | None:
        """What is known of an open request; None when no such request is open."""
        request = self.get(request_id)
        return request.state if request is not None else None

    def states(self) -> dict[str, LLMRequestState]:
        """What is known of all open requests, by id."""
        return {request.request_id: request.state for request in self}
