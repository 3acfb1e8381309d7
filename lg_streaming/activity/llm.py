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


class LLMStream(Registry[LLMRequest, LLMRequestState]):
    """The open requests to models of an emitter's execution, by id. A request that has ended is removed.

    Args:
        emitter: Publishes their updates.
        include_tokens: False keeps text without publishing it, but for ``response`` in ``llm_complete``.
        include_tool_calls: False publishes no tool calls and results.
        include_usage: False publishes no usage.
        include_messages: True adds the messages and the system prompt to ``llm_start``. The default is False, because
            they may hold what readers must not see.
        response_bytes: Bytes of a request's text that are kept for `LLMRequest.full_response`. They do not bound the
            streamed text.

    Raises:
        BadRequestError: If ``response_bytes`` is invalid.
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
        max_bytes = value_or_default(
            emitter, lambda: int(number(response_bytes, "response_bytes", least=0)), _RESPONSE_BYTES
        )
        self._include_messages = include_messages
        self._options = RequestOptions(
            include_tokens=include_tokens,
            include_tool_calls=include_tool_calls,
            include_usage=include_usage,
            response_bytes=max_bytes,
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
        """Begin a request: publish ``llm_start``.

        Args:
            model: The name of the model.
            provider: The provider of the model; any word.
            agent_id: The agent that sends the request.
            task_id: The task that needs it.
            messages: The messages; published only with ``include_messages``.
            system_prompt: The system prompt; published only with ``include_messages``.
            parameters: Such as the temperature; they are published.
            tools: The tools that the model may call; their names are published.
            request_id: 1 to 256 characters; a new id when not given.
            message_id: The id of the answer; the request's id when not given.

        Raises:
            BadRequestError: If an id is invalid.
            TransitionError: If a request of that id is open, or this was closed.
        """
        request_id = id_or_new(self._emitter, request_id, "request_id")
        prompt = drop_none(messages=messages, system_prompt=system_prompt) if self._include_messages else {}
        started = drop_none(
            message_id=message_id or request_id,
            agent_id=agent_id,
            task_id=task_id,
            parameters=None if parameters is None else dict(parameters),
            tools=None if tools is None else [tool_name(tool) for tool in tools],
            **prompt,
        )

        def create(emitter: Emitter) -> LLMRequest:
            fields: dict[str, Any] = {
                "request_id": request_id,
                "message_id": message_id or request_id,
                "attempt": emitter.scope.attempt or 1,  # from the start, so that readers see it rise
                **drop_none(task_id=task_id),
            }
            if agent_id is not None:
                fields["extra"] = {**(emitter.scope.extra or {}), "agent_id": agent_id}
            scoped = emitter.scoped(**fields)
            state = LLMRequestState(
                request_id=request_id,
                model=model,
                provider=provider,
                agent_id=agent_id,
                task_id=task_id,
                started_at=current_timer().now,
            )
            return LLMRequest(scoped, state, started, self._options)

        return self._add(request_id, create)
