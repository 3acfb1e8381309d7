"""Keeps LangGraph's idle timeout of a node what it is without a decorator.

The idle clock starts again with every callback, so also with every token. A model that streams only because a
decorated node listens would keep a node alive that the plain node's silence had ended. Tokens of such a call
therefore do not reach the clock; tokens that the node, the model or another listener asked for do.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langgraph.pregel import _retry

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.callbacks import BaseCallbackManager

__all__ = ["keep_idle_clock"]

_CLOCK: Final[type | None] = getattr(_retry, "_IdleProgressCallbackHandler", None)
_INVOKED: Final = {BaseChatModel.generate.__code__: False, BaseChatModel.agenerate.__code__: True}
"""What runs when a model is invoked, and whether it is async."""
_STREAMED: Final = {BaseChatModel.stream.__code__, BaseChatModel.astream.__code__}
_MAX_FRAMES: Final = 64


def keep_idle_clock(manager: BaseCallbackManager, tap: BaseCallbackHandler) -> None:
    """Put a filter before the idle clocks among the handlers of a node, where ``tap`` makes its models stream.

    A no-op where another handler makes models stream anyway.
    """
    if _CLOCK is None or any(hasattr(each, "tap_output_aiter") for each in manager.handlers if each is not tap):
        return
    manager.handlers = [_filtered(each) for each in manager.handlers]
    manager.inheritable_handlers = [_filtered(each) for each in manager.inheritable_handlers]


def _filtered(handler: BaseCallbackHandler) -> BaseCallbackHandler:
    return _ClockFilter(handler) if _CLOCK is not None and type(handler) is _CLOCK else handler


class _ClockFilter(BaseCallbackHandler):
    """Passes every callback on to an idle clock, without the tokens of calls that stream for our sake only."""

    run_inline = True

    def __init__(self, clock: BaseCallbackHandler) -> None:
        self._clock: Any = clock
        self._ours: set[UUID] = set()

    def __getattribute__(self, name: str) -> Any:
        own: Any = super().__getattribute__(name)
        if not name.startswith("on_") or name in _FILTERED:
            return own
        return getattr(super().__getattribute__("_clock"), name)

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Notes whether the call streams for our sake only."""
        if not _streams_by_itself():
            self._ours.add(run_id)
        self._clock.on_chat_model_start(serialized, messages, run_id=run_id, **kwargs)

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Passes a token on, unless it comes for our sake only."""
        if run_id not in self._ours:
            self._clock.on_llm_new_token(token, run_id=run_id, **kwargs)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forgets the call."""
        self._ours.discard(run_id)
        self._clock.on_llm_end(response, run_id=run_id, **kwargs)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forgets the call."""
        self._ours.discard(run_id)
        self._clock.on_llm_error(error, run_id=run_id, **kwargs)


_FILTERED: Final = frozenset({"on_chat_model_start", "on_llm_new_token", "on_llm_end", "on_llm_error"})


def _streams_by_itself() -> bool:
    """Return whether the model call that starts now streams whoever listens.

    LangChain's callbacks do not carry that, so the call's own frames are read: streamed or invoked, and when it was
    invoked, what the model answers for a call without listeners. True where that cannot be found out.
    """
    frame = inspect.currentframe()
    for _ in range(_MAX_FRAMES):
        if frame is None or frame.f_code in _STREAMED:
            return True
        if frame.f_code in _INVOKED:
            model, options = frame.f_locals.get("self"), cast("dict[str, Any]", frame.f_locals.get("kwargs") or {})
            asks: Any = getattr(model, "_should_stream", None)
            return asks is None or bool(asks(async_api=_INVOKED[frame.f_code], **options))
        frame = frame.f_back
    return True
